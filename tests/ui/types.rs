//! Types that serde does not know: told at the method.

struct Opaque;

#[nape::api("a")]
trait Types {
    fn takes(&self, value: Opaque);
    fn gives(&self) -> Opaque;
    fn fails(&self) -> Result<u8, Opaque>;
    fn fine(&self, n: u8) -> u8;
}

fn main() {}
