//! Nested APIs that are none.

#[nape::api("a")]
trait Inner {
    fn fine(&self);
}

#[nape::api("a")]
trait Outer {
    #[nested]
    fn nothing(&self);
    #[nested]
    fn concrete(&self) -> String;
    #[nested]
    fn arguments(&self, n: u8) -> impl Inner;
    #[nested]
    #[event]
    #[timeout = "2s"]
    fn both(&self) -> impl Inner;
    #[nested]
    fn endless(&self) -> impl Outer;
}

fn main() {}
