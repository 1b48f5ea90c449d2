//! Responders where there is nothing to answer by them.

use nape::Responder;

#[nape::api("a")]
trait Responders {
    fn first(&self, answer: Responder<u8>, n: u8);
    fn returns(&self, answer: Responder<u8>) -> u8;
    fn lent(&self, answer: &Responder<u8>);
    fn borrowed(&self, answer: Responder<&str>);
    #[event]
    fn event(&self, answer: Responder<u8>);
    #[nested]
    fn nested(&self, answer: Responder<u8>) -> impl Other;
    fn pattern(&self, mut answer: Responder<u8>);
    fn fine(&self, n: u8, answer: Responder<u8>);
}

#[nape::api]
trait Other {}

fn main() {}
