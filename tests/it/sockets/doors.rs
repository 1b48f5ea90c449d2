//! What can be wrong with an address, or with what stands there.

use std::{
    env, fs, io,
    os::unix::{fs::PermissionsExt, net::UnixListener},
    time::{Duration, Instant},
};

use nape::{Address, AddressError, Allow, Config, Error, Head, Neck, StartError, Token};

use super::{Where, call, echo, refusal};
use crate::{
    support::watched,
    tools::{LONG, eventually},
};

#[track_caller]
fn cannot_listen(outcome: nape::Result<nape::Listener>) -> (String, io::ErrorKind) {
    match outcome.expect_err("it listens") {
        Error::Start(StartError::Listen { address, error }) => (address.to_string(), error.kind()),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn cannot_connect<T>(outcome: nape::Result<T>) -> io::ErrorKind {
    match outcome.err().expect("it connected") {
        Error::Start(StartError::Connect { error, .. }) => error.kind(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn row_41_a_second_listener_is_told_that_the_first_is_there() {
    watched(|| {
        let place = Where::unix();
        let first = place.listen(place.head().serve(echo("head")).listening());
        let (address, kind) = cannot_listen(Neck::listen(first.address()));
        assert_eq!((address, kind), (place.address.to_string(), io::ErrorKind::AddrInUse));
        let neck = place.visit(&first);
        assert_eq!(call(&neck, "head", 1).unwrap(), 1);

        let place = Where::tcp();
        let first = place.listen(place.head().listening());
        assert_eq!(cannot_listen(Head::listen(first.address())).1, io::ErrorKind::AddrInUse);
    });
}

#[test]
fn row_42_the_socket_of_a_process_that_has_died_makes_way() {
    watched(|| {
        let place = Where::unix();
        drop(UnixListener::bind(place.address.path().unwrap()).unwrap());
        assert_eq!(cannot_connect(Neck::connect(&place.address)), io::ErrorKind::ConnectionRefused);
        let listener = place.listen(place.head().listening());
        drop(place.visit(&listener));
        drop(listener);
        assert_eq!(cannot_connect(Neck::connect(&place.address)), io::ErrorKind::NotFound);
    });
}

#[test]
fn row_43_a_path_that_is_too_long_is_refused_before_anything_is_made() {
    let directory = env::temp_dir();
    let path = directory.join("x".repeat(108 - directory.as_os_str().len()));
    let text = format!("unix:{}", path.display());
    let errors = [Head::listen(&text).err(), Neck::connect(&text).err()];
    for error in errors {
        let Some(Error::Start(StartError::Address(AddressError::TooLong { limit, .. }))) = error else {
            panic!("{error:?}")
        };
        assert_eq!(limit, 107);
    }
    assert!(!path.exists());
}

#[test]
fn row_44_everybodys_directory_is_no_place_for_a_socket() {
    let place = Where::unix();
    let directory = place.directory.as_ref().unwrap();
    fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(cannot_listen(Head::listen(&place.address)).1, io::ErrorKind::PermissionDenied);
    let nowhere = format!("unix:{}/missing/a.sock", directory.display());
    assert_eq!(cannot_listen(Head::listen(&nowhere)).1, io::ErrorKind::NotFound);
    assert_eq!(cannot_connect(Head::connect(&nowhere)), io::ErrorKind::NotFound);
}

#[test]
fn only_the_loopback_is_served() {
    for text in ["tcp:0.0.0.0:0", "tcp:[::]:0", "tcp:192.0.2.1:80"] {
        let errors = [Head::listen(text).err(), Neck::connect(text).err()];
        for error in errors {
            let Some(Error::Start(StartError::Address(AddressError::NotLoopback(_)))) = error else {
                panic!("{error:?}")
            };
        }
    }
}

#[test]
fn two_of_a_kind_are_told_so() {
    watched(|| {
        for place in [Where::unix(), Where::tcp()] {
            let listener = place.listen(place.neck().listening());
            let why = refusal(place.neck().connect(place.of(&listener)));
            assert!(why.to_string().contains("a Head goes with a Neck"), "{why}");
            let listener = place.head().listen("tcp:127.0.0.1:0").unwrap();
            let token = *listener.token().unwrap();
            let why = refusal(Head::builder().token(token).connect(listener.address()));
            assert!(why.to_string().contains("a Head goes with a Neck"), "{why}");
        }
    });
}

#[test]
fn p_36_a_wrong_token_is_refused_with_the_reason() {
    watched(|| {
        for place in [Where::unix(), Where::tcp()] {
            let token = Token::random().unwrap();
            let listener = place.head().token(token).serve(echo("head")).listen(&place.address).unwrap();
            let address = place.of(&listener);
            let half = |text: &str| [&token.reveal()[..32], text].concat().parse().unwrap();
            for wrong in [
                Token::random().unwrap(),
                format!("{}{}", "0".repeat(32), &token.reveal()[32..]).parse().unwrap(),
            ] {
                let why = refusal(Neck::builder().token(wrong).connect(&address));
                assert!(why.to_string().contains("the token is wrong"), "{why}");
            }
            // Who listens has to know its half as well.
            let why = refusal(Neck::builder().token(half(&"0".repeat(32))).connect(&address));
            assert!(why.to_string().contains("the token is wrong"), "{why}");
            let neck = Neck::builder().token(token).connect(&address).unwrap().start();
            assert_eq!(call(&neck, "head", 1).unwrap(), 1);
        }
    });
}

#[test]
fn p_36_over_tcp_nobody_comes_without_a_token() {
    watched(|| {
        let listener = Head::listen("tcp:[::1]:0").or_else(|_| Head::listen("tcp:127.0.0.1:0")).unwrap();
        assert_ne!(listener.address().socket_addr().unwrap().port(), 0);
        assert_eq!(cannot_connect(Neck::connect(listener.address())), io::ErrorKind::InvalidInput);
        let token = *listener.token().expect("it has made one");
        let _neck = Neck::builder().token(token).connect(listener.address()).unwrap();
    });
}

#[test]
fn p_36_a_rule_decides_which_users_come_in() {
    watched(|| {
        let place = Where::unix();
        let me = rustix::process::geteuid().as_raw();
        let listener = place.listen(place.head().allow(Allow::users([me + 1])).listening());
        let mode = fs::metadata(place.address.path().unwrap()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o666, "others could not even ask");
        let why = refusal(Neck::connect(&place.address));
        assert!(matches!(why, nape::CloseReason::TurnedAway(nape::TurnedAway::NotAllowed)), "{why}");
        assert_eq!(listener.n_turned_away(), 1);
        drop(listener);
        let listener = place.listen(place.head().allow(Allow::when(move |peer| peer.uid == me)).listening());
        drop(place.visit(&listener));
        // The one who connects has a rule as well.
        let strict = place.neck().allow(Allow::users([me + 1])).connect(&place.address);
        assert_eq!(cannot_connect(strict), io::ErrorKind::PermissionDenied);
    });
}

#[test]
fn whoever_never_greets_is_waited_for_within_the_start_timeout() {
    watched(|| {
        let place = Where::unix();
        let path = place.address.path().unwrap();
        let _silent = UnixListener::bind(path).unwrap();
        let limit = Duration::from_millis(100);
        let begin = Instant::now();
        let config = || Config::new().start_timeout(limit);
        assert!(Neck::builder().config(config()).connect(&place.address).is_err());
        assert!(Head::builder().config(config()).connect(&place.address).is_err());
        assert!(begin.elapsed() >= 2 * limit && begin.elapsed() < LONG, "{:?}", begin.elapsed());
        fs::remove_file(path).unwrap();

        // A Head waits for a Neck to be ready, and not only to be there.
        let gate = crate::tools::Gate::default();
        let theirs = gate.clone();
        let listener = place.listen(place.neck().listening().on_arrival(move |_| theirs.pass()));
        let kind = cannot_connect(Head::builder().config(config()).connect(&place.address));
        assert_eq!(kind, io::ErrorKind::TimedOut);
        gate.open();
        eventually(|| listener.peers().is_empty());
    });
}

#[test]
fn what_is_wrong_with_the_apis_is_said_before_anybody_comes() {
    let place = Where::unix();
    let twice = place.head().serve(echo("a")).serve(echo("a")).listen(&place.address);
    assert!(matches!(twice.unwrap_err(), Error::Api(_)));
    let _none: Address = "unix:/run/a.sock".parse().unwrap();
}
