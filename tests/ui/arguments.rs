//! Arguments that cannot travel.

use nape::Context;

#[nape::api("a")]
trait Arguments {
    fn pattern(&self, (a, b): (u8, u8));
    fn wildcard(&self, _: u8);
    fn changes(&self, list: &mut Vec<u8>);
    fn inside(&self, list: Vec<&str>);
    fn lives(&self, text: &'static str);
    fn borrowed(&self, text: std::borrow::Cow<'_, str>);
    fn opaque(&self, list: impl Iterator<Item = u8>);
    fn object(&self, value: &dyn Send);
    fn itself(&self, other: Self)
    where
        Self: Sized;
    fn attribute(&self, #[allow(unused)] n: u8);
    fn late(&self, n: u8, cx: &Context);
}

fn main() {}
