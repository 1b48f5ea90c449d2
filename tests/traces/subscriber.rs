//! A subscriber that remembers every span.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fmt::Debug,
    sync::{Mutex, OnceLock},
};

use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

/// A span as it was seen.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Seen {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) parent: Option<u64>,
    pub(crate) fields: BTreeMap<String, String>,
    pub(crate) is_closed: bool,
    handles: u64,
}

impl Seen {
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

/// Every span of this process, in the order in which they were opened.
static SPANS: Mutex<Vec<Seen>> = Mutex::new(Vec::new());
static INSTALLED: OnceLock<()> = OnceLock::new();

thread_local! {
    /// The spans that are entered on this thread, from the outermost in.
    static ENTERED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

struct Remember;

/// From now on spans are seen.
pub(crate) fn install() {
    INSTALLED.get_or_init(|| tracing::subscriber::set_global_default(Remember).unwrap());
}

pub(crate) fn spans() -> Vec<Seen> {
    SPANS.lock().unwrap().clone()
}

fn with(id: &Id, change: impl FnOnce(&mut Seen)) {
    let mut spans = SPANS.lock().unwrap();
    change(&mut spans[id.into_u64() as usize - 1]);
}

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let before = self.fields.insert(field.name().to_owned(), format!("{value:?}"));
        assert_eq!(before, None, "{} is recorded once", field.name());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

impl Subscriber for Remember {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let current = ENTERED.with_borrow(|entered| entered.last().copied());
        let parent = attributes.parent().map(Id::into_u64).or(current.filter(|_| attributes.is_contextual()));
        let name = attributes.metadata().name().to_owned();
        let mut seen = Seen { name, parent, handles: 1, ..Seen::default() };
        attributes.record(&mut seen);
        let mut spans = SPANS.lock().unwrap();
        seen.id = spans.len() as u64 + 1;
        let id = Id::from_u64(seen.id);
        spans.push(seen);
        id
    }

    fn record(&self, id: &Id, values: &Record<'_>) {
        with(id, |seen| values.record(seen));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, id: &Id) {
        ENTERED.with_borrow_mut(|entered| entered.push(id.into_u64()));
    }

    fn exit(&self, id: &Id) {
        let last = ENTERED.with_borrow_mut(|entered| entered.pop());
        assert_eq!(last, Some(id.into_u64()), "spans are left in reverse order");
    }

    fn clone_span(&self, id: &Id) -> Id {
        with(id, |seen| seen.handles += 1);
        id.clone()
    }

    fn try_close(&self, id: Id) -> bool {
        let mut closed = false;
        with(&id, |seen| {
            seen.handles -= 1;
            seen.is_closed = seen.handles == 0;
            closed = seen.is_closed;
        });
        closed
    }
}
