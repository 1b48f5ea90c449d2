//! What is no `&self`.

#[nape::api("a")]
trait Receivers {
    fn none(n: u8);
    fn value(self);
    fn exclusive(&mut self);
    fn boxed(self: Box<Self>);
    fn fine(&self);
}

struct Mine;

impl Receivers for Mine {
    fn none(_: u8) {}
    fn value(self) {}
    fn exclusive(&mut self) {}
    fn boxed(self: Box<Self>) {}
    fn fine(&self) {}
}

fn main() {
    let _ = Mine.into_api();
}
