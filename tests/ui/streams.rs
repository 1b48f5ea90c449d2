//! Streams that cannot be.

use nape::{Fault, Incoming, Outgoing};

#[nape::api("s")]
trait Streams {
    #[stream]
    fn nothing(&self);
    #[stream]
    fn no_iterator(&self) -> Result<Vec<u8>, Fault>;
    #[stream]
    fn no_item(&self) -> Result<impl Iterator + Send + use<Self>, Fault>;
    #[stream]
    fn no_result(&self) -> impl Iterator<Item = u8> + Send + use<Self>;
    #[stream]
    fn a_reference(&self) -> impl Iterator<Item = Result<&'static str, Fault>> + Send + use<Self>;
    #[stream]
    fn stays(&self) -> impl Iterator<Item = Result<u8, Fault>>;
    #[stream]
    fn short(&self) -> Result<impl Iterator<Item = Result<u8, Fault>> + Send, Fault>;
    fn no_stream(&self) -> impl Iterator<Item = Result<u8, Fault>> + Send + use<Self>;
    #[stream(fast)]
    fn arguments(&self, items: Incoming<u8>);
    #[stream]
    #[event]
    fn event(&self) -> impl Iterator<Item = Result<u8, Fault>> + Send + use<Self>;
    #[event]
    fn upload_event(&self, items: Incoming<u8>);
    fn untyped(&self, items: Incoming);
    fn borrowed(&self, items: &Incoming<u8>);
    fn lifetimes(&self, items: Incoming<&'static str>);
    fn early(&self, items: Incoming<u8>, n: u8);
    fn order(&self, out: Outgoing<u8>, items: Incoming<u8>);
    fn two(&self, items: Incoming<u8>, more: Incoming<u8>);
    fn only_out(&self, out: Outgoing<u8>);
    fn both(&self, items: Incoming<u8>) -> impl Iterator<Item = Result<u8, Fault>> + Send + use<Self>;
    #[nested]
    fn nested(&self, items: Incoming<u8>) -> impl Streams;
}

fn main() {}
