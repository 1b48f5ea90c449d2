//! Links that speak JSON: who asks for it, who refuses it, and how what travels looks there.
//!
//! What holds on every link is shown there by the tests of `on_every_link!`, which has one of JSON.

use std::{collections::BTreeMap, time::Duration};

use crossbeam_channel::unbounded;
use nape::{
    Api, Backlog, Bytes, CallError, CloseReason, Codec, Config, Context, Fault, Head, Neck, Payload,
    ProtocolError, Rejection, Topic,
    transport::{ipc_pair, memory_pair, pipe_pair, shm_pair},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    raw_end::RawNeck,
    support::{Kind, watched},
    tools::{LONG, SOON, until},
};

fn asking(codec: Codec) -> Config {
    Config::new().codec(codec)
}

/// A Head and a Neck over a pipe, with these configs; the Neck answers with what it got.
fn ends(head: Config, neck: Config) -> (Head, Neck) {
    let (ours, theirs) = pipe_pair().unwrap();
    let raw = |_: &Context, payload: Payload| Ok(payload);
    let neck = Neck::builder().config(neck).over(theirs).unwrap();
    let neck = neck.serve(Api::new("raw").otherwise(raw).unwrap()).unwrap().start();
    (Head::builder().config(head).over(ours).unwrap(), neck)
}

/// What a value looks like on a link of JSON.
fn text_of<A: Serialize + Send + 'static>(head: &Head, value: A) -> String {
    let raw: Payload = head.api("raw").action("echo", value).call().unwrap();
    String::from_utf8(raw.into_bytes()).unwrap()
}

#[test]
fn either_side_may_ask() {
    watched(|| {
        for (ours, theirs) in
            [(Codec::Json, Codec::Binary), (Codec::Binary, Codec::Json), (Codec::Json, Codec::Json)]
        {
            let (head, neck) = ends(asking(ours), asking(theirs));
            // Also if it is called before the other side has greeted.
            assert_eq!(text_of(&head, (1u8, "two")), r#"[1,"two"]"#);
            assert_eq!((head.codec(), neck.codec()), (Codec::Json, Codec::Json));
        }
        let (head, neck) = ends(Config::new(), Config::new());
        assert_eq!(head.api("raw").action("echo", 7u8).call::<u8>().unwrap(), 7);
        assert_eq!((head.codec(), neck.codec()), (Codec::Binary, Codec::Binary));
    });
}

/// What is called and fired before it is known what the link speaks.
#[test]
fn what_is_sent_before_the_greeting_arrives_in_the_codec_of_the_link() {
    watched(|| {
        for asks in [Codec::Binary, Codec::Json] {
            let (ours, theirs) = memory_pair();
            let head = Head::builder().over(ours).unwrap();
            let started = head.api("a").action("twice", "early".to_owned()).start::<String>().unwrap();
            let large = head.api("a").action("len", vec![7u8; 200_000]).start::<usize>().unwrap();
            // A key that JSON has no text for: refused there, and fine in binary.
            let odd = BTreeMap::from([((1u8, 2u8), 3u8)]);
            let odd = head.api("a").action("odd", odd).start::<usize>().unwrap();
            head.api("a").action("note", 5u8).fire().unwrap();
            let (noted, notes) = unbounded();
            let api = Api::new("a")
                .handle("twice", |_: &Context, text: String| Ok::<_, Fault>(text.repeat(2)))
                .and_then(|api| api.handle("len", |_: &Context, list: Vec<u8>| Ok::<_, Fault>(list.len())))
                .and_then(|api| {
                    api.handle("odd", |_: &Context, m: BTreeMap<(u8, u8), u8>| Ok::<_, Fault>(m.len()))
                })
                .and_then(|api| {
                    api.handle("note", move |_: &Context, n: u8| Ok::<_, Fault>(noted.send(n).unwrap()))
                })
                .unwrap();
            let neck = Neck::builder().config(asking(asks)).over(theirs).unwrap();
            let _neck = neck.serve(api).unwrap().start();
            assert_eq!(started.wait().unwrap(), "earlyearly");
            assert_eq!(large.wait().unwrap(), 200_000);
            assert_eq!(notes.recv_timeout(LONG), Ok(5));
            assert_eq!(head.codec(), asks);
            match odd.wait() {
                Ok(1) if asks == Codec::Binary => {}
                Err(CallError::Rejected(Rejection::BadArguments { .. })) if asks == Codec::Json => {}
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn who_does_not_take_it_refuses_and_both_are_told() {
    watched(|| {
        let only_binary = || Config::new().only_binary();
        for (ours, theirs) in [(asking(Codec::Json), only_binary()), (only_binary(), asking(Codec::Json))] {
            let (head, neck) = ends(ours, theirs);
            for end in [head.endpoint(), neck.endpoint()] {
                until("it ends", || end.close_reason().is_some());
                let reason = end.close_reason().unwrap();
                assert!(
                    matches!(
                        *reason,
                        CloseReason::Protocol(ProtocolError::CodecRefused(Codec::Json))
                            | CloseReason::Accused { code: 21 }
                    ),
                    "{reason:?}"
                );
            }
            let error = head.api("raw").action("echo", 1u8).call::<u8>().unwrap_err();
            assert!(matches!(error, CallError::Closed { .. }), "{error:?}");
        }
        let told = ProtocolError::CodecRefused(Codec::Json);
        assert_eq!(
            (told.to_string(), told.code()),
            ("JSON is asked for as the codec, and not taken".into(), 21)
        );
    });
}

/// A Neck of before there was a choice: no bit says that it takes JSON.
#[test]
fn a_peer_that_knows_no_choice_is_spoken_to_in_binary() {
    watched(|| {
        let (ours, theirs) = memory_pair();
        let head = Head::builder().over(ours).unwrap();
        let _old = RawNeck::ready(theirs);
        head.wait_open(LONG);
        assert_eq!((head.codec(), head.close_reason().is_none()), (Codec::Binary, true));

        let (ours, theirs) = memory_pair();
        let head = Head::builder().config(asking(Codec::Json)).over(ours).unwrap();
        let _old = RawNeck::ready(theirs);
        until("it is refused", || head.close_reason().is_some());
        let reason = head.close_reason().unwrap();
        assert!(
            matches!(*reason, CloseReason::Protocol(ProtocolError::CodecRefused(Codec::Json))),
            "{reason:?}"
        );
    });
}

#[test]
fn every_transport_speaks_it() {
    watched(|| {
        for (ours, theirs) in [memory_pair(), ipc_pair().unwrap(), pipe_pair().unwrap(), shm_pair().unwrap()]
        {
            let raw = |_: &Context, payload: Payload| Ok(payload);
            let neck = Neck::builder().over(theirs).unwrap();
            let _neck = neck.serve(Api::new("raw").otherwise(raw).unwrap()).unwrap().start();
            let head = Head::builder().config(asking(Codec::Json)).over(ours).unwrap();
            assert_eq!(text_of(&head, Some("x")), r#""x""#);
        }
    });
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Empty,
    Circle(f64),
    Box { width: u32 },
}

#[test]
fn each_type_looks_as_the_wire_format_says() {
    watched(|| {
        let (head, neck) = ends(asking(Codec::Json), Config::new());
        let there = |_: &Context, payload: Payload| Ok::<_, Fault>(Bytes::new(payload.into_bytes()));
        neck.attach(Api::new("b").handle("ytes", there).unwrap()).unwrap();
        fn back<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug + Clone + Send + 'static>(
            head: &Head,
            value: T,
            text: &str,
        ) {
            assert_eq!(text_of(head, value.clone()), text);
            assert_eq!(head.api("raw").action("echo", value.clone()).call::<T>().unwrap(), value);
        }
        back(&head, (), "null");
        back(&head, true, "true");
        back(&head, u64::MAX, "18446744073709551615");
        back(&head, i128::MIN, "-170141183460469231731687303715884105728");
        back(&head, 0.1f64 + 0.2, "0.30000000000000004");
        back(&head, 'é', "\"é\"");
        back(&head, None::<u8>, "null");
        back(&head, (1u8, "x".to_owned()), r#"[1,"x"]"#);
        back(&head, [1u16, 2], "[1,2]");
        back(&head, vec![Some(1u8), None], "[1,null]");
        back(&head, BTreeMap::from([(7u32, "x".to_owned())]), r#"{"7":"x"}"#);
        back(&head, Bytes::new(vec![0, 255, 16]), "\"AP8Q\"");
        back(&head, Duration::from_millis(1500), r#"{"secs":1,"nanos":500000000}"#);
        assert_eq!(text_of(&head, Shape::Empty), "\"Empty\"");
        assert_eq!(text_of(&head, Shape::Circle(1.5)), r#"{"Circle":1.5}"#);
        assert_eq!(text_of(&head, Shape::Box { width: 3 }), r#"{"Box":{"width":3}}"#);
        // Bytes are taken as an array, too, as a list of them is one.
        assert_eq!(head.api("raw").action("echo", vec![1u8, 2]).call::<Bytes>().unwrap().into_vec(), [1, 2]);
        // A raw handler has the text.
        let raw: Bytes = head.api("b").action("ytes", (1u8, "x")).call().unwrap();
        assert_eq!(raw.into_vec(), br#"[1,"x"]"#);
    });
}

#[cfg(feature = "macros")]
mod by_trait {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
    #[error("no room for {wanted}")]
    pub struct Full {
        wanted: u32,
    }

    #[nape::api("hall")]
    pub trait Hall {
        fn seat(&self, name: String, row: u32) -> Result<String, Full>;
        fn one(&self, row: u32) -> u32;
        fn none(&self) -> u8;
        #[stream]
        fn rows(&self, from: u32, to: u32) -> impl Iterator<Item = Result<u32, Full>> + Send + use<Self>;
        fn sum(&self, first: u32, factor: u32, more: nape::Incoming<u32>) -> u32;
    }

    struct MyHall;

    impl Hall for MyHall {
        fn seat(&self, name: String, row: u32) -> Result<String, Full> {
            if row > 9 { Err(Full { wanted: row }) } else { Ok(format!("{name} in {row}")) }
        }

        fn one(&self, row: u32) -> u32 {
            row
        }

        fn none(&self) -> u8 {
            1
        }

        fn rows(&self, from: u32, to: u32) -> impl Iterator<Item = Result<u32, Full>> + Send + use<> {
            (from..to).map(Ok)
        }

        fn sum(&self, first: u32, factor: u32, more: nape::Incoming<u32>) -> u32 {
            (first + more.map(Result::unwrap).sum::<u32>()) * factor
        }
    }

    fn raw(text: &str) -> Payload {
        Payload::from_bytes(text.as_bytes().to_vec())
    }

    #[test]
    fn arguments_go_by_their_order_or_by_their_names() {
        watched(|| {
            let (head, neck) = ends(asking(Codec::Json), Config::new());
            neck.attach(MyHall.into_api()).unwrap();
            let hall = head.api("hall");
            let seat = |text| hall.action("seat", raw(text)).call::<String>();
            assert_eq!(seat(r#"["Ann", 3]"#).unwrap(), "Ann in 3");
            assert_eq!(seat(r#" {"row": 3, "name": "Ann"} "#).unwrap(), "Ann in 3");
            let why = |text| match seat(text) {
                Err(CallError::Rejected(Rejection::BadArguments { detail, .. })) => detail.to_string(),
                other => panic!("{other:?}"),
            };
            assert_eq!(why(r#"{"name": "Ann"}"#), "the argument `row` is missing");
            assert_eq!(why(r#"{"row": 3, "name": "Ann", "x": 1}"#), "there is no argument `x`");
            assert!(why(r#"{"row": 3, "name": "#).contains("EOF"), "{}", why(r#"{"row": 3, "name": "#));
            assert!(why(r#"["Ann", 3] 1"#).contains("trailing"));
            // One argument is its own value, and none is null or nothing at all.
            assert_eq!(hall.action("one", raw("4")).call::<u32>().unwrap(), 4);
            assert!(hall.action("one", raw(r#"{"row": 4}"#)).call::<u32>().is_err());
            assert_eq!(hall.action("none", raw("null")).call::<u8>().unwrap(), 1);
            assert_eq!(hall.action("none", raw("")).call::<u8>().unwrap(), 1);
            let rows = hall.action("rows", raw(r#"{"to": 4, "from": 2}"#)).open::<u32>().unwrap();
            assert_eq!(rows.map(Result::unwrap).collect::<Vec<_>>(), [2, 3]);
            // The ends of streams are no arguments.
            let named = raw(r#"{"factor": 10, "first": 1}"#);
            let mut sum = hall.action("sum", named).upload::<u32, u32>().unwrap();
            sum.send(2).unwrap();
            assert_eq!(sum.finish().unwrap(), 30);
        });
    }

    #[test]
    fn a_typed_error_is_json_and_comes_back_as_itself() {
        watched(|| {
            let (head, neck) = ends(asking(Codec::Json), Config::new());
            neck.attach(MyHall.into_api()).unwrap();
            let hall = HallClient::on(&head);
            let error = hall.seat("Ann".into(), 12).call().unwrap_err();
            assert_eq!(error.fault().unwrap().typed::<Full>(), Some(Full { wanted: 12 }));
            // One that is made before it is known where it goes.
            let late = |_: &Context, (): ()| Err::<(), _>(Fault::from_typed(&Full { wanted: 5 }));
            neck.attach(Api::new("late").handle("fail", late).unwrap()).unwrap();
            let error = head.api("late").action("fail", ()).call::<()>().unwrap_err();
            assert_eq!(error.fault().unwrap().typed::<Full>(), Some(Full { wanted: 5 }));
        });
    }

    /// From the hall over one codec to the desk, and over the other to whoever asks at the desk.
    #[test]
    fn an_error_that_goes_on_over_another_codec_keeps_its_text() {
        watched(|| {
            for (near, far) in [(Codec::Binary, Codec::Json), (Codec::Json, Codec::Binary)] {
                let (middle, hall) = ends(asking(far), Config::new());
                hall.attach(MyHall.into_api()).unwrap();
                let (head, desk) = ends(asking(near), Config::new());
                let client = HallClient::on(&middle);
                let ask = move |_: &Context, row: u32| Ok::<_, Fault>(client.seat("Ann".into(), row).call()?);
                desk.attach(Api::new("desk").handle("ask", ask).unwrap()).unwrap();
                let error = head.api("desk").action("ask", 12u32).call::<String>().unwrap_err();
                let inner = error.fault().and_then(Fault::call_error).unwrap();
                assert_eq!(inner.fault().unwrap().message(), "no room for 12");
                assert_eq!(inner.fault().unwrap().typed::<Full>(), None, "its value is in the other codec");
            }
        });
    }
}

#[test]
fn topics_tell_nothing_from_an_item_that_is_nothing() {
    watched(|| {
        let (head, neck) = Kind::Json.ends();
        let (pulse, level) = (Topic::<()>::new(), Topic::<Option<u8>>::new());
        let api = Api::new("t").topic("pulse", &pulse).unwrap().topic("level", &level).unwrap();
        let _neck = neck.serve(api).unwrap().start();
        let mut pulses = head.subscribe::<()>("t.pulse", Backlog::drop_oldest(8)).unwrap();
        let mut levels = head.subscribe::<Option<u8>>("t.level", Backlog::drop_oldest(8)).unwrap();
        pulse.publish(());
        level.publish(None);
        level.publish(Some(3));
        assert!(matches!(pulses.next_timeout(SOON), Ok(Some(()))));
        assert!(matches!(levels.next_timeout(SOON), Ok(Some(None))));
        assert!(matches!(levels.next_timeout(SOON), Ok(Some(Some(3)))));
    });
}

/// By name, as a client in another language does it.
#[test]
fn topics_by_name_are_json() {
    watched(|| {
        let (head, neck) = Kind::Json.ends();
        let topic = Topic::<u8>::new();
        let _neck = neck.serve(Api::new("t").topic("level", &topic).unwrap()).unwrap().start();
        let (tell, told) = unbounded();
        let take = move |cx: &Context, payload: Payload| {
            tell.send((cx.path().to_string(), String::from_utf8(payload.into_bytes()).unwrap())).unwrap();
            Ok(Payload::from_bytes(b"null".to_vec()))
        };
        head.attach(Api::new("t.level").workers(1).otherwise(take).unwrap()).unwrap();
        let raw = |text: &str| Payload::from_bytes(text.as_bytes().to_vec());
        let level = head.api("t.level");
        let request = r#"{"number": 9, "bound": 2, "window": 2, "shape": 0, "policy": "DropNewest"}"#;
        level.action("subscribe", raw(request)).call::<()>().unwrap();
        for n in 0..4 {
            topic.publish(n);
        }
        level.action("taken", raw("[9, 2]")).fire().unwrap();
        level.action("unsubscribe", raw("9")).call::<()>().unwrap();
        let all: Vec<_> = (0..4).map(|_| told.recv_timeout(LONG).unwrap()).collect();
        let expected = [("item", "[0,0]"), ("item", "[1,1]"), ("item", "[4]"), ("end", "[4,0]")];
        let expected = expected.map(|(what, text)| (format!("t.level.{what}.9"), text.to_owned()));
        assert_eq!(all, expected);
    });
}
