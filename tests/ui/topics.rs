//! Topics that are none.

use nape::Topic;

#[nape::api("a")]
trait Topics {
    #[topic]
    fn nothing(&self);
    #[topic]
    fn plain(&self) -> u8;
    #[topic]
    fn arguments(&self, n: u8) -> Topic<u8>;
    #[topic]
    #[event]
    fn both(&self) -> Topic<u8>;
}

fn main() {}
