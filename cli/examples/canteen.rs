//! A program to look into: a canteen, with guests on a link of their own.
//!
//! ```sh
//! cargo run -p nape-cli --example canteen -- /tmp/canteen.sock
//! nape ls /tmp/canteen.sock     # in another shell; or call, tail, inflight, top
//! ```

use std::{env, error::Error, thread, time::Duration};

use nape::{Address, Api, CallError, Context, Fault, Head, Inspection, Listener, Neck, Token};
use serde::{Deserialize, Serialize};

/// What is wrong with an order.
#[derive(Debug, Serialize, Deserialize)]
pub struct Burnt {
    dish: String,
}

impl std::fmt::Display for Burnt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the {} is burnt", self.dish)
    }
}

impl Error for Burnt {}

#[nape::api("canteen", workers = 2)]
pub trait Canteen {
    /// Cooks a dish for so many guests.
    ///
    /// Toast is always burnt.
    fn cook(&self, dish: &str, guests: u32) -> Result<String, Burnt>;
    /// A guest has left.
    #[event]
    fn left(&self, name: String);
    /// One course after the other.
    #[stream]
    fn courses(&self, n: u32) -> impl Iterator<Item = Result<String, Fault>> + Send + use<Self>;
}

struct Kitchen;

impl Canteen for Kitchen {
    fn cook(&self, dish: &str, guests: u32) -> Result<String, Burnt> {
        if dish == "toast" { Err(Burnt { dish: dish.into() }) } else { Ok(format!("{dish} for {guests}")) }
    }

    fn left(&self, _name: String) {}

    fn courses(&self, n: u32) -> impl Iterator<Item = Result<String, Fault>> + Send + use<> {
        (1..=n).map(|n| Ok(format!("course {n}")))
    }
}

/// One worker, so that a second order waits. It looks up when nobody wants the first one any more.
fn oven() -> Result<Api, nape::ApiError> {
    let bake = |cx: &Context, seconds: u64| {
        let given_up = cx.cancel_token().wait_timeout(Duration::from_secs(seconds));
        if given_up { Err(Fault::new("nobody wants it any more")) } else { Ok("bread".to_owned()) }
    };
    Api::new("oven").workers(1).handle("bake", bake)
}

/// What belongs together: it ends with this.
pub struct Open {
    pub listener: Listener,
    /// Whoever calls over it is one of the guests.
    pub guests: Head,
    _kitchen: Neck,
}

/// Opens it at an address.
pub fn open(address: &Address, token: Option<Token>) -> nape::Result<Open> {
    let (guests, kitchen) = Head::in_process()?;
    let kitchen = kitchen.serve(Kitchen.into_api())?.serve(oven()?)?.start();
    let inspection = Inspection::new();
    inspection.watch("guests", kitchen.endpoint());
    let mut builder = Head::builder().serve(Kitchen.into_api()).serve(oven()?).serve(inspection.into_api());
    if let Some(token) = token {
        builder = builder.token(token);
    }
    let listener = builder.listen(address)?;
    Ok(Open { listener, guests, _kitchen: kitchen })
}

#[allow(dead_code, reason = "the tests take the rest of this file")]
fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args().nth(1).ok_or("where to listen? canteen /tmp/canteen.sock")?;
    let open = open(&Address::unix(path)?, None)?;
    println!("the canteen is open at {}", open.listener.address());
    let canteen = CanteenClient::on(&open.guests);
    let oven = open.guests.api("oven");
    let mut bread = Vec::new();
    for n in 0u32.. {
        let dish = if n % 50 == 49 { "toast" } else { "soup" };
        match canteen.cook(dish, n % 7).call() {
            Ok(_) | Err(CallError::Fault(_)) => {}
            Err(error) => return Err(error.into()),
        }
        if n % 10 == 0 {
            canteen.left(format!("guest {n}")).fire()?;
        }
        if n % 200 == 0 {
            bread = vec![oven.action("bake", 2u64).start::<String>()?, oven.action("bake", 1u64).start()?];
        }
        thread::sleep(Duration::from_millis(20));
    }
    drop(bread);
    Ok(())
}
