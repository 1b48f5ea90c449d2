//! Links and APIs that a file describes, and what is said of a file that is wrong.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use nape::{
    Api, Backlog, CallError, Config, Context, Fault, Handler, Head, Incoming, LayerCall, Leave, Limits, Neck,
    Payload, Rejection, Topic,
    config_file::{BadValue, ConfigError, ConfigFile, Handlers, check},
};

use crate::support::watched;

/// A folder of its own that goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("nape-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn file(&self, text: &str) -> PathBuf {
        let path = self.0.join("app.toml");
        fs::write(&path, text.replace("DIR", self.0.to_str().unwrap())).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

fn bad(text: &str) -> BadValue {
    ConfigFile::parse(text).expect_err(text)
}

/// Says its own name.
fn named(name: &'static str) -> Handler {
    Handler::new(move |cx: &Context, ()| Ok::<_, Fault>(format!("{name} at {}", cx.path())))
}

fn served(api: Api) -> (Head, Neck) {
    let (head, neck) = Head::in_process().unwrap();
    (head, neck.serve(api).unwrap().start())
}

#[test]
fn ac_43_an_api_is_built_from_a_file() {
    let file = ConfigFile::parse(
        r#"
        [apis.shop]
        namespace = "town.shop"
        otherwise = "rest"
        [apis.shop.methods]
        open = {}
        "shelf.count" = { handler = "count" }
        "#,
    )
    .unwrap();
    let handlers = Handlers::new().add("town.shop.open", named("open")).unwrap();
    let handlers = handlers.add("count", named("count")).unwrap().add("unused", named("no")).unwrap();
    let handlers = handlers.add("rest", named("rest")).unwrap();
    let (head, _neck) = served(file.api("shop", &handlers).unwrap());

    let ask = |path: &str| head.api(path).action("", ()).call::<String>();
    assert_eq!(ask("town.shop.open").unwrap(), "open at town.shop.open");
    assert_eq!(ask("town.shop.shelf.count").unwrap(), "count at town.shop.shelf.count");
    assert_eq!(ask("town.shop.else").unwrap(), "rest at town.shop.else");
    for elsewhere in ["shop.open", "unused", "town.unused"] {
        let error = ask(elsewhere).unwrap_err();
        assert!(matches!(error, CallError::Rejected(Rejection::NoHandler { .. })), "{elsewhere}: {error}");
    }
}

#[test]
fn ac_43_workers_and_queue_are_those_of_the_file() {
    watched(|| {
        let text = "[apis.a]\nworkers = 2\nqueue = 1\nwhen_full = 'refuse'\nmethods = ['block']";
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (inside, leave) = (Arc::new(Barrier::new(3)), Arc::new(Barrier::new(3)));
        let (theirs, their_leave, peak) = (inside.clone(), leave.clone(), most.clone());
        let block = move |_: &Context, meet: bool| {
            peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            if meet {
                theirs.wait();
                their_leave.wait();
            }
            now.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, Fault>(())
        };
        let handlers = Handlers::new().handle("a.block", block).unwrap();
        let (head, _neck) = served(ConfigFile::parse(text).unwrap().api("a", &handlers).unwrap());
        let start = |meet: bool| head.api("a").action("block", meet).start::<()>().unwrap();
        let two = [start(true), start(true)];
        inside.wait();
        let (waits, refused) = (start(false), start(false));
        let error = refused.wait().unwrap_err();
        assert!(matches!(error, CallError::Rejected(Rejection::Busy { .. })), "{error}");
        leave.wait();
        two.into_iter().chain([waits]).for_each(|call| call.wait().unwrap());
        assert_eq!(most.load(Ordering::SeqCst), 2);
    });
}

#[test]
fn ac_43_calls_have_the_defaults_of_the_file() {
    watched(|| {
        let text = r#"
            [apis.a]
            defaults = { timeout = "20ms" }
            [apis.a.methods]
            quick = {}
            slow = { timeout = "never" }
        "#;
        let file = ConfigFile::parse(text).unwrap();
        let sleep = |_: &Context, ()| {
            std::thread::sleep(Duration::from_millis(200));
            Ok::<_, Fault>(7u8)
        };
        let handlers = Handlers::new().handle("a.quick", sleep).unwrap().handle("a.slow", sleep).unwrap();
        let (head, _neck) = served(file.api("a", &handlers).unwrap());
        let caller = file.caller("a", &head).unwrap();
        let error = caller.action("quick", ()).call::<u8>().unwrap_err();
        assert!(matches!(error, CallError::TimedOut { .. }), "{error}");
        assert_eq!(caller.action("slow", ()).call::<u8>().unwrap(), 7);
        assert_eq!(caller.action("quick", ()).timeout(Duration::from_secs(30)).call::<u8>().unwrap(), 7);
    });
}

#[test]
fn ac_43_streams_topics_and_catch_alls_of_an_api_go_where_the_file_says() {
    watched(|| {
        let text = r#"
            apis.new.methods = { numbers = { handler = "old.numbers" }, news = { handler = "old.news" } }
            apis.new.otherwise = "old.*"
        "#;
        let topic = Topic::<u8>::new();
        let numbers = |_: &Context, n: u8| Ok::<_, Fault>((0..n).map(Ok::<u8, Fault>));
        let old = Api::new("old").stream("numbers", numbers).unwrap().topic("news", &topic).unwrap();
        let old = old.otherwise(|_: &Context, raw: Payload| Ok(raw)).unwrap();
        let handlers = Handlers::new().api(old).unwrap();
        let (head, _neck) = served(ConfigFile::parse(text).unwrap().api("new", &handlers).unwrap());
        let items: Incoming<u8> = head.api("new").action("numbers", 3u8).open().unwrap();
        assert_eq!(items.map(Result::unwrap).collect::<Vec<_>>(), [0, 1, 2]);
        let mut news = head.subscribe::<u8>("new.news", Backlog::latest()).unwrap();
        topic.publish(9);
        assert_eq!(news.next().unwrap().unwrap(), 9);
        assert_eq!(head.api("new").action("any", 5u8).call::<u8>().unwrap(), 5);
    });
}

#[test]
fn what_an_api_has_around_its_handlers_stays_there() {
    let old = Api::new("old").handle("a", |_: &Context, ()| Ok::<_, Fault>(())).unwrap();
    let refuse = |call: &mut LayerCall<'_>| -> Result<Leave, CallError> {
        Err(CallError::Rejected(Rejection::Denied { path: call.path().clone() }))
    };
    let handlers = Handlers::new().api(old.layer(refuse)).unwrap();
    let file = ConfigFile::parse("[apis.new]\nmethods.b = { handler = 'old.a' }").unwrap();
    let (head, _neck) = served(file.api("new", &handlers).unwrap());
    let error = head.api("new").action("b", ()).call::<()>().unwrap_err();
    assert!(matches!(error, CallError::Rejected(Rejection::Denied { .. })), "{error}");
}

#[test]
fn a_handler_that_the_program_does_not_have_is_named_with_its_path() {
    let text = "[apis.a]\nmethods.count = { handler = 'text.count' }\n[links.l]\nspawn.program = 'x'\nhead.serve = ['a']";
    let file = ConfigFile::parse(text).unwrap();
    let handlers = Handlers::new().add("text.cuont", named("x")).unwrap();
    for error in [file.api("a", &handlers).unwrap_err(), file.head("l", &handlers).unwrap_err()] {
        assert!(matches!(&error, ConfigError::NoHandler { path, .. } if path == "a.count"), "{error}");
        let says = "apis.a.methods.count: no handler for a.count: the program was to give one named `text.count`; \
                    is `text.cuont` meant?";
        assert_eq!(error.to_string(), says);
    }
}

#[test]
fn both_ends_are_made_from_one_file_and_the_token_goes_by_its_file() {
    watched(|| {
        let folder = Folder::new("both-ends");
        let path = folder.file(
            r#"
            [links.by_path]
            meet = { address = "unix:DIR/a.sock", max_peers = 1 }
            head.serve = ["who"]
            [links.by_port]
            meet = { address = "unix:DIR/b.sock", listens = "neck", token_file = "DIR/token" }
            config.timeout = "9s"
            neck = { serve = ["who"], config = { name = "nck" } }
            [apis.who]
            methods = ["am_i"]
            "#,
        );
        let file = ConfigFile::read(&path).unwrap();
        let handlers = Handlers::new().add("who.am_i", named("me")).unwrap();
        let ask = |caller: nape::config_file::Caller| caller.action("am_i", ()).call::<String>().unwrap();

        let listener = file.listener("by_path", &handlers).unwrap();
        let neck = file.neck("by_path", &Handlers::new()).unwrap().start();
        assert_eq!(ask(file.caller("who", &neck).unwrap()), "me at who.am_i");
        let full = file.neck("by_path", &Handlers::new()).unwrap_err();
        assert!(matches!(full, ConfigError::Link { .. }), "{full}");
        drop((neck, listener));

        let early = file.head("by_port", &Handlers::new()).unwrap_err();
        assert!(matches!(early, ConfigError::Token { .. }), "{early}");
        let listener = file.listener("by_port", &handlers).unwrap();
        let head = file.head("by_port", &Handlers::new()).unwrap();
        assert_eq!(ask(file.caller("who", &head).unwrap()), "me at who.am_i");
        // Whoever has another token does not come in.
        nape::Token::random().unwrap().write(folder.0.join("token")).unwrap();
        let stranger = file.head("by_port", &Handlers::new()).unwrap_err();
        assert!(matches!(stranger, ConfigError::Link { .. }), "{stranger}");
        drop((head, listener));

        let wrong = file.head("by_path", &Handlers::new()).unwrap_err().to_string();
        assert_eq!(wrong, "links.by_path: its Head listens, and is made as a listener");
        let unknown = file.neck("by_pathh", &Handlers::new()).unwrap_err().to_string();
        assert_eq!(unknown, "no link `by_pathh` in the file; is `by_path` meant?");
    });
}

#[test]
fn a_program_is_started_again_as_the_file_says() {
    watched(|| {
        let text = |restarts: &str| {
            format!(
                "[links.l]\nspawn = {{ program = 'PROGRAM', arguments = ['ARGS'], restarts = {restarts} }}\n"
            )
        };
        let file = |restarts: &str| ConfigFile::parse(&text(restarts)).unwrap();
        // A program that is none: what is tried, and how often, is seen without one.
        let every = "{ when = 'always', limit = { restarts = 2, window = '1m' }, \
            backoff = { first = '1ms', longest = '2ms' }, poisonous_after = 1 }";
        let supervised = file(every);
        let error = supervised.supervisor("l", &Handlers::new()).unwrap_err();
        assert!(matches!(&error, ConfigError::Link { link, .. } if link == "l"), "{error:?}");
        let command = supervised.command("l").unwrap();
        assert_eq!(
            (command.get_program(), command.get_args().next()),
            ("PROGRAM".as_ref(), Some("ARGS".as_ref()))
        );
        let builder = format!("{:?}", supervised.supervisor_builder("l", &Handlers::new()).unwrap());
        for part in
            ["when: Always", "most: 2", "window: 60s", "first: 1ms", "longest: 2ms", "poison_after: 1"]
        {
            assert!(builder.contains(part), "no {part} in {builder}");
        }
        let builder = format!("{:?}", file("{}").supervisor_builder("l", &Handlers::new()).unwrap());
        assert!(builder.contains(&format!("{:?}", nape::Restarts::on_crash())), "{builder}");

        let wrong = supervised.head("l", &Handlers::new()).unwrap_err().to_string();
        assert_eq!(wrong, "links.l: its program is started again, and the Head is made as a supervisor");
        let plain = ConfigFile::parse("[links.l]\nspawn = { program = 'x' }").unwrap();
        let wrong = plain.supervisor("l", &Handlers::new()).unwrap_err().to_string();
        assert_eq!(wrong, "links.l: it has no `spawn.restarts`");

        let key = |restarts: &str| bad(&text(restarts)).key.to_string();
        assert_eq!(key("{ when = 'often' }"), "links.l.spawn.restarts.when");
        assert_eq!(key("{ limit = { restarts = 1 } }"), "links.l.spawn.restarts.limit.window");
        assert_eq!(
            key("{ backoff = { first = 1, longest = '1s' } }"),
            "links.l.spawn.restarts.backoff.first"
        );
        assert_eq!(key("{ poisonous_after = 0 }"), "links.l.spawn.restarts.poisonous_after");
        assert_eq!(key("{ more = 1 }"), "links.l.spawn.restarts.more");
    });
}

#[test]
fn a_bad_value_is_told_with_its_place_its_keys_and_what_was_expected() {
    for (text, place, key, found, expected) in [
        ("a = ", (1, 5), "", "what is no TOML", "TOML"),
        ("[apis.x]\nmethods = 5", (2, 11), "apis.x.methods", "5", "an array of names, or a table"),
        ("[apis.x]\nmethods = ['a', 5]", (2, 17), "apis.x.methods[1]", "5", "a string"),
        ("[apis.x]\nmethods = ['a']\nqueue = 0", (3, 9), "apis.x.queue", "0", "a number of at least 1"),
        ("[apis.x]\nmethods = ['a']\ninline = 'no'", (3, 10), "apis.x.inline", "\"no\"", "`true` or `false`"),
        ("[apis.x]\nmethods = ['a..b']", (2, 1), "apis.x.methods.\"a..b\"", "\"a..b\"", "a segment is empty"),
        ("[apis.x]\nnamespace = 'a b'", (2, 1), "apis.x.namespace", "\"a b\"", "it contains ' '"),
        ("[apis.x]\nworkers = 2", (1, 7), "apis.x", "no method", "`methods` or `otherwise`"),
        ("[links.l]", (1, 8), "links.l", "neither `spawn` nor `meet`", "one of them"),
        ("[links.l]\nspawn.arguments = []", (2, 1), "links.l.spawn.program", "nothing", "required"),
        ("links.l.meet.address = '/a'", (1, 24), "links.l.meet.address", "\"/a\"", "is neither"),
        ("links.l.meet.address = 'tcp:127.0.0.1:1'", (1, 9), "links.l.meet.token_file", "nothing", "token"),
        ("links.l.spawn = { program = 'x', wire = 7 }", (1, 41), "links.l.spawn.wire", "integer", "\"pipe\""),
    ] {
        let bad = bad(text);
        assert_eq!((bad.place, &*bad.key), (Some(place), key), "{text:?}: {bad}");
        assert!(bad.found.contains(found) && bad.expected.contains(expected), "{text:?}: {bad}");
    }
    // A time, a size, a count, and what has a range; the third in a config is that of the whole file.
    for (knob, found, expected) in [
        ("timeout = 5", "5", "a time such as \"250ms\", \"5s\" or \"2m\", or \"never\""),
        ("timeout = '5 seconds'", "\"5 seconds\"", "a time such as"),
        ("timeout = '99999999999999h'", "\"99999999999999h\"", "a time such as"),
        ("grace = 'never'", "\"never\"", "a time such as \"250ms\", \"5s\" or \"2m\""),
        (
            "limits.message_bytes = '1 KB'",
            "\"1 KB\"",
            "a size in bytes, or one such as \"16 MiB\", of 1024 to",
        ),
        ("limits.message_bytes = '1023 B'", "\"1023 B\"", "1024 to 1073741824"),
        ("limits.in_flight = -1", "-1", "a number of at least 1"),
        ("limits.stream_items = 1048577", "1048577", "a number of 1 to 1048576"),
        ("watchdog = '1ms'", "1ms", "at least \"10ms\""),
        ("heartbeat = { interval = '1s' }", "nothing", "required"),
        ("name = \"a\\u0000b\"", "\"a\\0b\"", "a name without NUL"),
        ("answers = 'soon'", "the value `soon`, which is unknown", "one of `at-once`, `together`"),
        ("codec = 1.5", "float", "\"binary\""),
        #[cfg(feature = "compression")]
        ("compression = 'zip'", "the value `zip`, which is unknown", "lz4"),
    ] {
        let bad = bad(&format!("[links.l.neck.config]\n\n{knob}"));
        assert!(
            bad.key.starts_with(&format!("links.l.neck.config.{}", knob.split(' ').next().unwrap())),
            "{bad}"
        );
        assert_eq!(bad.place.unwrap().0, 3, "{bad}");
        assert!(bad.found.contains(found) && bad.expected.contains(expected), "{bad}");
    }
}

#[test]
fn a_name_that_is_not_known_is_told_with_the_nearest_one() {
    for (text, place, key, nearest) in [
        ("[link.l]", (1, 2), "link", Some("links")),
        ("[apis.x]\nmethod = []", (2, 1), "apis.x.method", Some("methods")),
        (
            "[apis.x]\nmethods = { a = { time_out = '1s' } }",
            (2, 19),
            "apis.x.methods.a.time_out",
            Some("timeout"),
        ),
        (
            "[links.l.config.limits]\nmesage_bytes = 1",
            (2, 1),
            "links.l.config.limits.mesage_bytes",
            Some("message_bytes"),
        ),
        ("[links.l.config]\nTimeout = '1s'", (2, 1), "links.l.config.Timeout", Some("timeout")),
        (
            "[links.l.config]\nsomething_else_entirely = 1",
            (2, 1),
            "links.l.config.something_else_entirely",
            None,
        ),
        ("links.l.spawn = { program = 'x', wire = 'pip' }", (1, 41), "links.l.spawn.wire", Some("pipe")),
        (
            "[apis.words]\nmethods=['a']\n[links.l]\nspawn.program='x'\nneck.serve = ['words', 'wrods']",
            (5, 24),
            "links.l.neck.serve[1]",
            Some("words"),
        ),
    ] {
        let bad = bad(text);
        assert_eq!((bad.place, &*bad.key), (Some(place), key), "{bad}");
        assert_eq!(bad.nearest.as_deref(), nearest, "{bad}");
        assert!(bad.found.contains("unknown"), "{bad}");
    }
}

#[test]
fn apis_that_claim_the_same_path_are_refused_before_there_is_a_link() {
    let apis = "[apis.a]\nnamespace = 'x'\nmethods = ['y']\n[apis.b]\nnamespace = ''\nmethods = ['x.y']\n";
    let apart = format!("{apis}[links.l]\nspawn.program='p'\nhead.serve = ['a']\nneck.serve = ['b']");
    assert!(ConfigFile::parse(&apart).is_ok());
    let together = bad(&format!("{apis}[links.l]\nspawn.program='p'\nhead.serve = ['a', 'b']"));
    assert_eq!((&*together.key, together.place), ("links.l.head.serve[1]", Some((9, 20))));
    assert!(together.expected.contains("x.y belongs to the API x"), "{together}");
}

#[test]
fn every_key_of_a_config_is_taken_and_does_what_its_setter_does() {
    let text = r#"
        [links.l]
        spawn.program = "x"
        [links.l.config]
        name = "me"
        codec = "only-binary"
        COMPRESSION
        timeout = "never"
        answers = "together"
        start_timeout = "1500us"
        stall_timeout = "2m"
        write_stall = "10 ms"
        heartbeat = { interval = "10ms", limit = "1h" }
        watchdog = "10ms"
        grace = "0s"
        limits = { LIMITS }
    "#;
    let limits = [
        "message_bytes = '1 KiB'",
        "received_bytes = 7",
        "in_flight = 2",
        "send_queue = 3",
        "send_queue_bytes = 0",
        "served_calls = 4",
        "stream_items = 1_048_576",
        "stream_bytes = '1GiB'",
        "subscription_items = 65_536",
        "topic_items = 0",
        "callback_workers = 5",
        "callbacks = 6",
    ];
    let text = text.replace("LIMITS", &limits.join(", "));
    let compression = if cfg!(feature = "compression") { "compression = 'lz4'" } else { "" };
    let text = text.replace("COMPRESSION", compression);
    let by_hand = Config::new()
        .name("me")
        .only_binary()
        .timeout(nape::Timeout::Never)
        .limits(
            Limits::new()
                .message_bytes(1024)
                .received_bytes(7)
                .in_flight(2)
                .send_queue(3)
                .send_queue_bytes(0)
                .served_calls(4)
                .stream_items(1 << 20)
                .stream_bytes(1 << 30)
                .subscription_items(65_536)
                .topic_items(0)
                .callback_workers(5)
                .callbacks(6),
        )
        .answers(nape::Answers::Together)
        .start_timeout(Duration::from_micros(1500))
        .stall_timeout(Duration::from_secs(120))
        .write_stall(Duration::from_millis(10))
        .heartbeat(Duration::from_millis(10), Duration::from_secs(3600))
        .watchdog(Duration::from_millis(10))
        .grace(Duration::ZERO);
    #[cfg(feature = "compression")]
    let by_hand = by_hand.compression(nape::Compression::Lz4);
    let file = ConfigFile::parse(&text).unwrap();
    let builder = format!("{:?}", file.head_builder("l", &Handlers::new()).unwrap());
    assert!(builder.contains(&format!("{by_hand:?}")), "{builder}\n{by_hand:?}");
    // Whatever fields there are, each has a key, but for the secret one.
    let fields = |debug: String| {
        let direct =
            |line: &&str| line.starts_with("    ") && !line.starts_with("     ") && line.contains(": ");
        debug.lines().filter(direct).filter(|line| !line.starts_with("    encryption")).count()
    };
    let (_, keys) = text.split_once(".config]").unwrap();
    let keys = keys.lines().filter(|line| line.contains(" = ")).count();
    assert_eq!(keys, fields(format!("{by_hand:#?}")));
    assert_eq!(limits.len(), fields(format!("{:#?}", Limits::new())));
}

#[test]
fn all_mistakes_are_told_at_once_and_none_that_another_one_causes() {
    let keys = |text: &str| -> Vec<String> {
        let all = ConfigFile::mistakes(text);
        // The first one that a program is told is among them, in whatever order.
        let first = ConfigFile::parse(text).err();
        assert!(first.is_none_or(|first| all.contains(&first)), "{text}: {all:?}");
        all.into_iter().map(|bad| format!("{}: {}", bad.place.unwrap().0, bad.key)).collect()
    };
    let good = "[links.l]\nspawn.program = 'x'\nneck.serve = ['a']\n[apis.a]\nmethods = ['m']\n";
    assert_eq!(keys(good), [""; 0]);

    // Values, keys and what is missing, in the order of the lines.
    let text = "[links.l]\nspawn = { wire = 'pipe', argument = 1 }\nconfig.timeout = 5\nconfig.workers = 1\n\
        [apis.a]\nworkers = 0\nmethods = ['m']\nqueue = 'x'\n[link]\n";
    let expected = [
        "2: links.l.spawn.program",
        "2: links.l.spawn.argument",
        "3: links.l.config.timeout",
        "4: links.l.config.workers",
        "6: apis.a.workers",
        "8: apis.a.queue",
        "9: link",
    ];
    let mut told = keys(text);
    told.sort();
    let mut expected = expected.map(str::to_owned);
    expected.sort();
    assert_eq!(told, expected);

    // A program of the wrong kind is not missing, too, and a link without one is not without a way.
    assert_eq!(keys(&good.replace("'x'", "7")), ["2: links.l.spawn.program"]);
    // What an API is wrong about is not told again where it is served; one that is left out is not unknown.
    assert_eq!(keys(&good.replace("['m']", "[]")), ["4: apis.a"]);
    assert_eq!(keys(&good.replace("methods = ['m']", "methods = ['a..b']")), ["5: apis.a.methods.\"a..b\""]);
    assert_eq!(keys("apis = 7\n[links.l]\nspawn.program = 'x'\nneck.serve = ['a']"), ["1: apis"]);
    // Both ends of a link, and both kinds of things.
    let text = "[links.l]\nhead.serve = ['b']\nneck.serve = ['c']\n[links.m]\n[apis.a]\nworkers = 2\n";
    let expected =
        ["1: links.l", "2: links.l.head.serve[0]", "3: links.l.neck.serve[0]", "4: links.m", "5: apis.a"];
    assert_eq!(keys(text), expected);
}

#[test]
fn a_file_is_checked_and_summed_up() {
    let folder = Folder::new("check");
    let good = folder.file(
        "links.a = { spawn = { program = 'p' }, neck.serve = ['x', 'y'] }\n\
         links.b.meet = { address = 'unix:/run/b', listens = 'neck' }\n\
         apis.x = { methods = ['m'] }\napis.y = { namespace = '', otherwise = 'r' }",
    );
    let says = "link a: the Head spawns p; the Head serves nothing, the Neck x, y\n\
                link b: the Neck listens at unix:/run/b; the Head serves nothing, the Neck nothing\n\
                API x: 1 method below `x`\nAPI y: 0 methods and the rest below the root\n";
    assert_eq!(check(good).unwrap(), says);
    let bad = folder.file("\n[links.a]\nspwan = {}");
    let error = check(&bad).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}:3:1: links.a.spwan: found ", bad.display())), "{error}");
    let error = check(folder.0.join("none.toml")).unwrap_err();
    assert!(matches!(error, ConfigError::Read { .. }), "{error}");
}

#[test]
#[cfg(feature = "json")]
fn another_format_is_read_and_checked_alike() {
    let read = |text: &str| serde_json::from_str::<ConfigFile>(text);
    let file = read(r#"{"apis": {"a": {"methods": ["m"], "queue": 3}}}"#).unwrap();
    assert_eq!(file.apis().collect::<Vec<_>>(), ["a"]);
    let error =
        read(r#"{"links": {"l": {"spawn": {"program": "x"}, "head": {"serve": ["b"]}}}}"#).unwrap_err();
    assert!(
        error.to_string().contains("links.l.head.serve[0]: found the API `b`, which is unknown"),
        "{error}"
    );
}
