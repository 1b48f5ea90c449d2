//! Types and lifetimes as parameters.

#[nape::api("a")]
trait Generic<T> {
    fn value(&self) -> u8;
}

#[nape::api("a")]
trait Methods
where
    Self: Clone,
{
    fn generic<T: Send>(&self, value: T) -> u8;
    fn lifetime<'a>(&self, text: &'a str) -> u8;
    fn clause(&self) -> u8
    where
        Self: Sized;
}

fn main() {}
