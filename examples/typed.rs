//! A trait that two programs share: the child serves it, the parent calls it. This program is both.
//!
//! ```sh
//! cargo run --example typed
//! ```

use std::{
    env,
    error::Error,
    process::Command,
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use nape::{Fault, Head, Neck};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct Thumb {
    size: u32,
    quality: u8,
}

#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
#[error("a thumbnail cannot have {0} pixels")]
struct ThumbError(u32);

#[nape::api("thumbs", workers = 4)]
trait Thumbs {
    /// Renders a thumbnail.
    fn make(&self, name: &str, size: u32) -> Result<Thumb, ThumbError>;
    /// How good the next ones will be.
    #[event]
    fn quality(&self, percent: u8);
}

#[derive(Default)]
struct MyThumbs(AtomicU8);

impl Thumbs for MyThumbs {
    fn make(&self, name: &str, size: u32) -> Result<Thumb, ThumbError> {
        let quality = self.0.load(Ordering::Relaxed);
        if name.is_empty() || size == 0 { Err(ThumbError(size)) } else { Ok(Thumb { size, quality }) }
    }

    fn quality(&self, percent: u8) {
        self.0.store(percent, Ordering::Relaxed);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    if env::args().nth(1).as_deref() == Some("child") { child() } else { parent() }
}

fn child() -> Result<(), Box<dyn Error>> {
    Ok(Neck::from_env()?.serve(MyThumbs::default().into_api())?.run()?)
}

fn parent() -> Result<(), Box<dyn Error>> {
    let mut command = Command::new(env::current_exe()?);
    command.arg("child");
    let head = Head::spawn(command)?;

    let thumbs = ThumbsClient::on(&head);
    thumbs.quality(80).fire()?;
    let thumb = thumbs.make("cat.png", 256).timeout(Duration::from_secs(2)).call()?;
    println!("blocking: {thumb:?}");
    let started = thumbs.make("dog.png", 128).start()?;
    println!("started:  {:?}", started.wait()?);
    let failed = thumbs.make("dot.png", 0).call().err().ok_or("no pixels are an error")?;
    let typed = failed.fault().and_then(Fault::typed::<ThumbError>);
    println!("failed:   {failed}, which is {typed:?}");
    Ok(())
}
