//! Attributes that mean nothing, or not that.

#[nape::api("a", timeout = "soon", workers = 0)]
trait Attributes {
    #[inline]
    fn unknown(&self);
    #[stream]
    fn stream(&self) -> Vec<u8>;
    #[event(fast)]
    fn arguments(&self);
    #[event]
    #[event]
    fn twice(&self);
    #[event]
    #[timeout = "2s"]
    fn hurried(&self);
    #[timeout = "2 parsecs"]
    fn unit(&self);
    #[timeout(2)]
    fn form(&self);
    #[path]
    fn no_path(&self);
}

#[nape::api("a", speed = 11)]
trait Options {}

#[nape::api("a", inline, workers = 2)]
trait Both {}

#[nape::api("a", inline, inline)]
trait Twice {}

const NAMESPACE: &str = "a";

#[nape::api(NAMESPACE)]
trait Named {}

#[nape::api]
struct Struct;

fn main() {}
