//! What the macro makes of a trait, written by hand: the shape that generated code has.

use nape::{
    __private::{self as private, About, Arc, Method, Serving},
    Api, ApiHandle, Context, Endpoint, Fault, TypedAction, TypedEvent,
};
use serde::{Deserialize, Serialize};

use crate::support::Kind;

on_every_link! { the_shape_by_hand_works }

#[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{0} is no size")]
struct ThumbError(u32);

/// `#[nape::api("thumbs", workers = 2)]`
trait Thumbs: Send + Sync + 'static {
    fn make(&self, cx: &Context, name: &str, size: u32) -> Result<String, ThumbError>;
    /// `#[event]`
    fn quality(&self, percent: u8);
    /// `#[nested]`
    fn cache(&self) -> impl Cache + use<Self>;

    fn into_api(self) -> Api
    where
        Self: Sized,
    {
        let mut api = Api::new("thumbs").workers(2);
        Self::__nape_serve(&Arc::new(self), &mut Serving::new(&mut api));
        api
    }

    fn __nape_serve(this: &Arc<Self>, serving: &mut Serving<'_>)
    where
        Self: Sized,
    {
        {
            let this = this.clone();
            let about = &About {
                path: "make",
                signature: "fn make(name: &str, size: u32) -> Result<String, ThumbError>",
                arguments: &[("name", "&str"), ("size", "u32")],
                values: 2,
                doc: "",
            };
            serving.method(about, move |cx, (name, size): (<str as ToOwned>::Owned, u32)| {
                private::Outcome::into_result(Self::make(&this, cx, std::borrow::Borrow::borrow(&name), size))
            });
        }
        {
            let this = this.clone();
            let about = &About { path: "quality", signature: "", arguments: &[], values: 0, doc: "" };
            serving.method(about, move |_, percent: u8| private::value(Self::quality(&this, percent)));
        }
        Cache::__nape_serve(&Arc::new(Self::cache(this)), &mut serving.nested("cache"));
    }
}

struct ThumbsClient {
    api: ApiHandle,
}

impl ThumbsClient {
    fn on(endpoint: &Endpoint) -> ThumbsClient {
        ThumbsClient::over(endpoint.api("thumbs"))
    }

    fn over(api: ApiHandle) -> ThumbsClient {
        ThumbsClient { api }
    }

    fn make(&self, name: &str, size: u32) -> TypedAction<(<str as ToOwned>::Owned, u32), String> {
        static METHOD: Method = Method::new();
        private::action(&self.api, "make", (ToOwned::to_owned(name), size), &METHOD)
    }

    fn quality(&self, percent: u8) -> TypedEvent<u8> {
        static METHOD: Method = Method::new();
        private::event(&self.api, "quality", percent, &METHOD)
    }

    fn cache(&self) -> CacheClient {
        CacheClient::over(self.api.api("cache"))
    }
}

/// `#[nape::api]`
trait Cache: Send + Sync + 'static {
    fn len(&self) -> usize;

    fn __nape_serve(this: &Arc<Self>, serving: &mut Serving<'_>)
    where
        Self: Sized,
    {
        let this = this.clone();
        let about =
            &About { path: "len", signature: "fn len() -> usize", arguments: &[], values: 0, doc: "" };
        serving.method(about, move |_, ()| private::value(Self::len(&this)));
    }
}

struct CacheClient {
    api: ApiHandle,
}

impl CacheClient {
    fn over(api: ApiHandle) -> CacheClient {
        CacheClient { api }
    }

    fn len(&self) -> TypedAction<(), usize> {
        static METHOD: Method = Method::new();
        private::action(&self.api, "len", (), &METHOD)
    }
}

/// What users write.
struct MyThumbs(crossbeam_channel::Sender<u8>);

struct MyCache(usize);

impl Thumbs for MyThumbs {
    fn make(&self, _: &Context, name: &str, size: u32) -> Result<String, ThumbError> {
        if size == 0 { Err(ThumbError(size)) } else { Ok(format!("{name}@{size}")) }
    }

    fn quality(&self, percent: u8) {
        self.0.send(percent).unwrap();
    }

    fn cache(&self) -> impl Cache + use<> {
        MyCache(7)
    }
}

impl Cache for MyCache {
    fn len(&self) -> usize {
        self.0
    }
}

fn the_shape_by_hand_works(kind: Kind) {
    let (tell, told) = crossbeam_channel::unbounded();
    let (head, _neck) = kind.serving(MyThumbs(tell).into_api());
    let thumbs = ThumbsClient::on(&head);
    assert_eq!(thumbs.make("a", 3).call().unwrap(), "a@3");
    let error = thumbs.make("a", 0).call().unwrap_err();
    assert_eq!(error.fault().and_then(Fault::typed), Some(ThumbError(0)));
    thumbs.quality(80).fire().unwrap();
    assert_eq!(told.recv(), Ok(80));
    assert_eq!(thumbs.cache().len().call().unwrap(), 7);
}
