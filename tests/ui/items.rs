//! What is no method.

#[nape::api("a")]
trait Items {
    const LIMIT: usize;
    type Item;
    fn fine(&self);
}

fn main() {}
