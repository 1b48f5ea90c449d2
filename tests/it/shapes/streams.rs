//! Methods with streams whose items differ between the two programs.

use nape::{CallError, Fault, Incoming, Outgoing, Rejection};

use crate::support::Kind;

mod theirs {
    use nape::{Fault, Incoming, Outgoing};

    #[nape::api("flow")]
    pub trait Flow {
        #[stream]
        fn list(&self) -> Result<impl Iterator<Item = Result<u32, Fault>> + Send + use<Self>, Fault>;
        #[stream]
        fn same(&self) -> Result<impl Iterator<Item = Result<u32, Fault>> + Send + use<Self>, Fault>;
        fn put(&self, items: Incoming<u32>) -> u64;
        fn swap(&self, items: Incoming<u32>, out: Outgoing<String>) -> Result<(), Fault>;
    }
}

mod ours {
    use nape::{Fault, Incoming, Outgoing};

    #[nape::api("flow")]
    pub trait Flow {
        #[stream]
        fn list(&self) -> Result<impl Iterator<Item = Result<(u32, u32), Fault>> + Send + use<Self>, Fault>;
        #[stream]
        fn same(&self) -> Result<impl Iterator<Item = Result<u32, Fault>> + Send + use<Self>, Fault>;
        fn put(&self, items: Incoming<String>) -> u64;
        fn swap(&self, items: Incoming<u32>, out: Outgoing<u32>) -> Result<(), Fault>;
    }
}

struct Served;

impl theirs::Flow for Served {
    fn list(&self) -> Result<impl Iterator<Item = Result<u32, Fault>> + Send + use<>, Fault> {
        Ok([1, 2].into_iter().map(Ok))
    }

    fn same(&self) -> Result<impl Iterator<Item = Result<u32, Fault>> + Send + use<>, Fault> {
        Ok([1, 2].into_iter().map(Ok))
    }

    fn put(&self, items: Incoming<u32>) -> u64 {
        items.count() as u64
    }

    fn swap(&self, items: Incoming<u32>, mut out: Outgoing<String>) -> Result<(), Fault> {
        for item in items {
            out.send(item?.to_string())?;
        }
        Ok(())
    }
}

fn mismatch(error: &CallError, expected: &str) {
    assert!(matches!(error, CallError::Rejected(Rejection::Mismatch { .. })), "{error:?}");
    assert_eq!(error.to_string(), expected);
}

fn a_stream_that_differs_is_refused_with_both_shapes(kind: Kind) {
    use theirs::Flow;
    let (head, _neck) = kind.serving(Served.into_api());
    let flow = ours::FlowClient::on(&head);

    let list: Vec<_> = flow.list().open().unwrap().collect();
    let [Err(error)] = &list[..] else { panic!("{list:?}") };
    mismatch(
        error,
        "flow.list differs: here it is () -> stream of (u32; 2), at the other side () -> stream of u32",
    );

    let error = flow.put().open().unwrap().finish().unwrap_err();
    mismatch(
        &error,
        "flow.put differs: here it is (), stream of text -> u64, at the other side (), stream of u32 -> u64",
    );

    let error = flow.swap().open().unwrap().finish().unwrap_err();
    mismatch(
        &error,
        "flow.swap differs: here it is (), stream of u32 -> stream of u32 and (), \
         at the other side (), stream of u32 -> stream of text and ()",
    );

    // The rest of the API works, and so does what is called by name.
    let same: Result<Vec<u32>, CallError> = flow.same().open().unwrap().collect();
    assert_eq!(same.unwrap(), [1, 2]);
    let list = head.api("flow").action("list", ()).open::<u32>().unwrap();
    assert_eq!(list.collect::<Result<Vec<_>, _>>().unwrap(), [1, 2]);
}

on_every_link! {
    a_stream_that_differs_is_refused_with_both_shapes,
}
