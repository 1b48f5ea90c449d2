//! The topics of a trait.

use nape::{Api, Backlog, CallError, Fault, Rejection, Timeout, Topic};

use crate::{support::Kind, tools::LONG};

on_every_link! {
    ac_33_a_topic_of_a_trait_is_subscribed_to_by_its_client,
    ac_42_a_topic_of_a_trait_is_listed_as_it_is_declared,
}

#[nape::api("job", timeout = "10s")]
trait Job {
    /// How far it is.
    #[topic]
    #[path = "how.far"]
    #[timeout = "5s"]
    fn progress(&self) -> Topic<(u32, String)>;
    #[nested]
    fn log(&self) -> impl Log;
    fn run(&self, n: u32);
}

#[nape::api]
trait Log {
    #[topic]
    fn lines(&self) -> nape::Topic<String>;
}

/// What an older program takes it for.
mod older {
    #[nape::api("job")]
    pub trait Job {
        #[topic]
        #[path = "how.far"]
        fn progress(&self) -> nape::Topic<u32>;
    }
}

#[derive(Clone, Default)]
struct MyJob(Topic<(u32, String)>, Topic<String>);

impl Job for MyJob {
    fn progress(&self) -> Topic<(u32, String)> {
        self.0.clone()
    }

    fn log(&self) -> impl Log {
        MyLog(self.1.clone())
    }

    fn run(&self, n: u32) {
        for done in 1..=n {
            self.0.publish((done, format!("of {n}")));
            self.1.publish(format!("line {done}"));
        }
    }
}

struct MyLog(Topic<String>);

impl Log for MyLog {
    fn lines(&self) -> Topic<String> {
        self.0.clone()
    }
}

fn ac_33_a_topic_of_a_trait_is_subscribed_to_by_its_client(kind: Kind) {
    let (head, neck) = kind.serving(MyJob::default().into_api());
    let job = JobClient::on(&head);
    let mut progress = job.progress().timeout(Timeout::Never).subscribe(Backlog::drop_newest(10)).unwrap();
    let mut lines = job.log().lines().subscribe(Backlog::drop_newest(10)).unwrap();
    job.run(3).call().unwrap();
    for n in 1..=3 {
        assert_eq!(progress.next_timeout(LONG).unwrap(), Some((n, "of 3".to_owned())));
        assert_eq!(lines.next_timeout(LONG).unwrap(), Some(format!("line {n}")));
    }
    // By name it is the same.
    let mut by_name = head.subscribe::<(u32, String)>("job.how.far", Backlog::latest()).unwrap();
    job.run(1).call().unwrap();
    assert_eq!(by_name.next_timeout(LONG).unwrap(), Some((1, "of 1".to_owned())));
    let error = older::JobClient::on(&head).progress().subscribe(Backlog::latest()).unwrap_err();
    assert!(matches!(&error, CallError::Rejected(Rejection::Mismatch { .. })), "{error:?}");
    assert_eq!(error.to_string(), "job.how.far differs: here it is u32, at the other side (u32, text)");
    // A path that somebody else has is told when it is attached.
    let other = Api::new("job.how.far").handle("taken", |_: &nape::Context, (): ()| Ok::<_, Fault>(()));
    assert!(neck.attach(other.unwrap()).is_err());
}

fn ac_42_a_topic_of_a_trait_is_listed_as_it_is_declared(kind: Kind) {
    let (_head, neck) = kind.serving(MyJob::default().into_api());
    let list = neck.arb().list();
    let said: Vec<_> = list.iter().map(|l| (l.path.as_str(), &*l.signature, &*l.doc)).collect();
    assert_eq!(
        said,
        [
            ("job.how.far", "#[topic] fn progress() -> Topic<(u32, String)>", "How far it is."),
            ("job.log.lines", "#[topic] fn lines() -> nape::Topic<String>", ""),
            ("job.run", "fn run(n: u32)", ""),
        ]
    );
}
