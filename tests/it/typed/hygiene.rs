//! Generated code needs no prelude, no name in scope, and no particular name of the library.

use crate::support::{Kind, watched};

/// What another crate may call the library.
extern crate nape as renamed;

#[no_implicit_prelude]
mod bare {
    /// Names that generated code must not take for its own.
    #[allow(dead_code)]
    mod taken {
        pub(super) struct String;
        pub(super) struct Vec;
        pub(super) struct Option;
        pub(super) struct Send;
        pub(super) struct Arc;
        pub(super) struct Api;
        pub(super) struct Clone;
        pub(super) struct Debug;
    }
    #[allow(unused_imports)]
    use taken::*;

    #[super::renamed::api("bare", crate = "super::renamed", timeout = "5s", workers = 1)]
    pub(super) trait Bare {
        fn all(&self, this: u8, cx: u8, serving: u8, api: &str, endpoint: u8) -> ::std::string::String;
        fn result(
            &self,
            context: &super::renamed::Context,
        ) -> ::std::result::Result<u8, super::renamed::Fault>;
        fn later(&self, api: u8, this: super::renamed::Responder<u8>);
        #[event]
        fn event(&self, arguments: u8);
        #[nested]
        fn child(&self) -> impl Child;
        #[stream]
        fn stream(
            &self,
            this: u8,
        ) -> ::std::result::Result<
            impl ::std::iter::Iterator<Item = ::std::result::Result<u8, super::renamed::Fault>>
            + ::std::marker::Send
            + use<Self>,
            super::renamed::Fault,
        >;
        fn duplex(
            &self,
            serving: u8,
            cx: super::renamed::Incoming<u8>,
            this: super::renamed::Outgoing<u8>,
        ) -> u8;
        fn upload(&self, items: super::renamed::Incoming<u8>);
    }

    #[super::renamed::api(crate = "super::renamed")]
    pub(super) trait Child {
        fn r#type(&self) -> u8;
    }
}

/// Each program uses a half of what is generated, and is not told so.
mod unused {
    #![deny(warnings, missing_docs, missing_debug_implementations)]

    /// A trait that nobody serves or calls.
    #[nape::api("unused", timeout = "never")]
    trait Unused {
        /// A method.
        fn method(&self, n: &u8) -> Result<u8, nape::Fault>;
        /// An event.
        #[event]
        fn event(&self);
        /// A stream.
        #[stream]
        fn stream(&self) -> impl Iterator<Item = Result<u8, nape::Fault>> + Send + use<Self>;
        /// An upload.
        fn upload(&self, items: nape::Incoming<u8>);
    }

    /// The same, as others would see it.
    #[nape::api("seen")]
    pub trait Seen {
        /// A method.
        fn method(&self, n: &u8) -> Result<u8, nape::Fault>;
    }
}

struct Mine;

impl bare::Bare for Mine {
    fn all(&self, this: u8, cx: u8, serving: u8, api: &str, endpoint: u8) -> String {
        format!("{this} {cx} {serving} {api} {endpoint}")
    }

    fn result(&self, _: &nape::Context) -> Result<u8, nape::Fault> {
        Ok(1)
    }

    fn later(&self, api: u8, this: nape::Responder<u8>) {
        this.answer(api);
    }

    fn event(&self, _: u8) {}

    fn child(&self) -> impl bare::Child {
        Mine
    }

    fn stream(
        &self,
        this: u8,
    ) -> Result<impl Iterator<Item = Result<u8, nape::Fault>> + Send + use<>, nape::Fault> {
        Ok((0..this).map(Ok))
    }

    fn duplex(&self, serving: u8, cx: nape::Incoming<u8>, mut this: nape::Outgoing<u8>) -> u8 {
        this.send(serving).unwrap();
        cx.count() as u8
    }

    fn upload(&self, items: nape::Incoming<u8>) {
        assert_eq!(items.count(), 1);
    }
}

impl bare::Child for Mine {
    fn r#type(&self) -> u8 {
        2
    }
}

#[test]
fn no_prelude_and_another_name_of_the_library() {
    watched(|| {
        let (head, _neck) = Kind::Channel.serving(bare::Bare::into_api(Mine));
        let bare = bare::BareClient::on(&head);
        assert_eq!(bare.all(1, 2, 3, "4", 5).call().unwrap(), "1 2 3 4 5");
        assert_eq!((bare.result().call().unwrap(), bare.child().r#type().call().unwrap()), (1, 2));
        assert_eq!(bare.later(6).call().unwrap(), 6);
        bare.event(1).fire().unwrap();
        assert_eq!(bare.stream(3).open().unwrap().count(), 3);
        let mut both = bare.duplex(7).open().unwrap();
        assert_eq!(both.next().unwrap().unwrap(), 7);
        both.send(1).unwrap();
        assert_eq!(both.finish().unwrap(), 1);
        let mut up = bare.upload().open().unwrap();
        up.send(1).unwrap();
        up.finish().unwrap();
    });
}
