//! Both ends of every kind of link, and a watchdog for what could hang.

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::mpsc,
    thread,
    time::Duration,
};

use nape::{
    Api, Head, HeadBuilder, Neck, NeckBuilder,
    transport::{ipc_pair, pipe_pair, shm_pair, tcp_pair},
};

#[cfg(feature = "json")]
use nape::transport::{FrameSender, Transport, memory_pair};

/// How long anything may take before it counts as a hang.
pub const HANG: Duration = Duration::from_secs(60);

/// A kind of link, with its two ends in this process.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Values move.
    Channel,
    /// The same, encoded.
    Encoded,
    /// The same as JSON.
    #[cfg(feature = "json")]
    Json,
    /// Over ipc-channel.
    Ipc,
    /// Over a pair of sockets.
    Pipe,
    /// The same, compressed and encrypted.
    #[cfg(all(feature = "compression", feature = "encryption"))]
    Filtered,
    /// Over TCP on the loopback.
    Tcp,
    /// Over shared memory.
    Shm,
}

impl Kind {
    /// Both ends with defaults. The Neck has not started.
    pub fn ends(self) -> (Head, Neck) {
        self.ends_with(Head::builder(), Neck::builder())
    }

    /// Both ends. The Neck has not started.
    pub fn ends_with(self, head: HeadBuilder, neck: NeckBuilder) -> (Head, Neck) {
        match self {
            Kind::Channel => head.in_process_with(neck).unwrap(),
            Kind::Encoded => head.in_process_encoded(neck).unwrap(),
            #[cfg(feature = "json")]
            Kind::Json => {
                let (ours, theirs) = memory_pair();
                (head.over(asking_for_json(ours)).unwrap(), neck.over(asking_for_json(theirs)).unwrap())
            }
            Kind::Ipc => {
                let (ours, theirs) = ipc_pair().unwrap();
                (head.over(ours).unwrap(), neck.over(theirs).unwrap())
            }
            Kind::Pipe => {
                let (ours, theirs) = pipe_pair().unwrap();
                (head.over(ours).unwrap(), neck.over(theirs).unwrap())
            }
            #[cfg(all(feature = "compression", feature = "encryption"))]
            Kind::Filtered => Kind::Pipe.ends_with(head.configure(filtered), neck.configure(filtered)),
            Kind::Tcp => {
                let (ours, theirs) = tcp_pair().unwrap();
                (head.over(ours).unwrap(), neck.over(theirs).unwrap())
            }
            Kind::Shm => {
                let (ours, theirs) = shm_pair().unwrap();
                (head.over(ours).unwrap(), neck.over(theirs).unwrap())
            }
        }
    }

    /// Both ends, the Neck with an API and started.
    pub fn serving(self, api: Api) -> (Head, Neck) {
        let (head, neck) = self.ends();
        (head, neck.serve(api).unwrap().start())
    }

    /// Whether what travels is JSON.
    pub fn is_json(self) -> bool {
        format!("{self:?}") == "Json"
    }

    /// Whether each byte costs far more here than on any other link: ciphers that are not optimized.
    pub fn is_slow(self) -> bool {
        cfg!(debug_assertions) && format!("{self:?}") == "Filtered"
    }

    /// Itself, for a test of what is otherwise there: `json.rs` shows how.
    pub fn unless_json(self) -> Option<Kind> {
        (!self.is_json()).then_some(self)
    }

    /// Whether bytes travel.
    pub fn encodes(self) -> bool {
        !matches!(self, Kind::Channel)
    }
}

/// The same with filters of each kind.
#[cfg(all(feature = "compression", feature = "encryption"))]
pub fn filtered(config: nape::Config) -> nape::Config {
    config.compression(nape::Compression::Lz4).encryption(nape::Key::from_bytes([7; nape::Key::LEN]))
}

/// The same end, whose side greets as one that asks for JSON, whatever its config says.
#[cfg(feature = "json")]
pub fn asking_for_json(end: Transport) -> Transport {
    struct Asking(Box<dyn FrameSender>, bool);

    impl FrameSender for Asking {
        fn send(&mut self, packet: &[u8]) -> std::io::Result<()> {
            let mut packet = packet.to_vec();
            if !std::mem::replace(&mut self.1, true) {
                // Behind the header of the first frame, which is the hello.
                packet[24 + 5] = 2;
            }
            self.0.send(&packet)
        }
    }

    Transport { sender: Box::new(Asking(end.sender, false)), ..end }
}

/// Makes a test of each function for each kind of link. A new kind joins by one line here.
macro_rules! on_every_link {
    ($($test:ident),* $(,)?) => {
        mod channel { $(#[test] fn $test() { $crate::support::watched(|| super::$test($crate::support::Kind::Channel)) })* }
        mod encoded { $(#[test] fn $test() { $crate::support::watched(|| super::$test($crate::support::Kind::Encoded)) })* }
        #[cfg(feature = "json")]
        mod json { $(#[test] fn $test() { $crate::support::watched(|| super::$test($crate::support::Kind::Json)) })* }
        mod shm { $(#[test] fn $test() { $crate::support::watched(|| super::$test($crate::support::Kind::Shm)) })* }
        mod ipc { $(#[test] fn $test() { $crate::support::watched(|| super::$test($crate::support::Kind::Ipc)) })* }
        mod pipe { $(#[test] fn $test() { $crate::support::watched(|| super::$test($crate::support::Kind::Pipe)) })* }
        #[cfg(all(feature = "compression", feature = "encryption"))]
        mod filtered { $(#[test] fn $test() { $crate::support::watched(|| super::$test($crate::support::Kind::Filtered)) })* }
        mod tcp { $(#[test] fn $test() { $crate::support::watched(|| super::$test($crate::support::Kind::Tcp)) })* }
    };
}

/// Makes a test of each function for each wire to a child.
macro_rules! on_every_wire_to_a_child {
    ($($test:ident),* $(,)?) => {
        mod ipc { $(#[test] fn $test() { $crate::support::watched(|| super::$test(nape::Wire::Ipc)) })* }
        mod pipe { $(#[test] fn $test() { $crate::support::watched(|| super::$test(nape::Wire::Pipe)) })* }
        mod shm { $(#[test] fn $test() { $crate::support::watched(|| super::$test(nape::Wire::Shm)) })* }
    };
}

/// How many times longer than usual anything may take: `NAPE_PATIENCE` says it, for builds and machines that are slow.
pub fn patience() -> u32 {
    env::var("NAPE_PATIENCE").map_or(1, |told| told.parse().expect("NAPE_PATIENCE is a number"))
}

/// Runs a test, and fails it when it hangs.
pub fn watched(test: impl FnOnce() + Send + 'static) {
    let (done, finished) = mpsc::channel();
    let name = thread::current().name().unwrap_or("test").to_owned();
    thread::Builder::new()
        .name(name.clone())
        .spawn(move || {
            let _ = done.send(catch_unwind(AssertUnwindSafe(test)));
        })
        .unwrap();
    // Who asks for many rounds has a watchdog for each.
    let rounds = if crate::soak::rounds().is_some() { 1000 } else { 1 };
    match finished.recv_timeout(patience() * rounds * HANG) {
        Ok(Ok(())) => {}
        Ok(Err(panic)) => resume_unwind(panic),
        Err(_) => panic!("{name} hangs"),
    }
}
