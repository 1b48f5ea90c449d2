//! Items that cannot travel.

use nape::{Fault, Incoming};

struct Local(u8);

#[nape::api("s")]
trait Types {
    #[stream]
    fn made(&self) -> impl Iterator<Item = Result<Local, Fault>> + Send + use<Self>;
    fn taken(&self, items: Incoming<Local>) -> u8;
}

fn main() {}
