//! Results that cannot travel.

#[nape::api("a")]
trait Results {
    fn reference(&self) -> &str;
    fn inside(&self) -> Result<&[u8], nape::Fault>;
    fn opaque(&self) -> impl Iterator<Item = u8>;
    fn itself(&self) -> Option<Box<Self>>;
    #[event]
    fn answer(&self) -> u8;
    #[event]
    fn value(&self) -> Result<u8, nape::Fault>;
}

fn main() {}
