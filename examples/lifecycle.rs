//! A service from its beginning to its end: it opens what it needs, has a pulse, and drains when it is asked to end.
//!
//! ```text
//! cargo run --example lifecycle --features signals
//! ```

use std::{
    env,
    error::Error,
    process::{self, Command},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use nape::{Address, Api, CallError, Context, Fault, Head, Neck};

fn main() -> Result<(), Box<dyn Error>> {
    let address = Address::unix(env::temp_dir().join(format!("lifecycle-{}.sock", process::id())))?;
    let listener = Head::builder().serve(store()?).listen(&address)?;

    // Somebody who uses it, has it swept in every 20 ms, and asks this process to end while a call is under way.
    let client = thread::spawn(move || client(&address).map_err(|error| error.to_string()));

    // Until SIGINT or SIGTERM.
    let stopped = listener.run_until_signal(Duration::from_secs(5))?;
    println!("asked by the signal {:?}; all had ended: {}", stopped.signal, stopped.drained);
    client.join().expect("it does not panic")?;
    Ok(())
}

fn store() -> Result<Api, nape::ApiError> {
    let sweeps = Arc::new(AtomicU64::new(0));
    let sweep = move |_: &Context, ()| Ok::<_, Fault>(sweeps.fetch_add(1, Ordering::Relaxed) + 1);
    let save = |_: &Context, text: String| {
        thread::sleep(Duration::from_millis(200));
        Ok::<_, Fault>(format!("{text} is saved"))
    };
    let api = Api::new("store").handle("sweep", sweep)?.handle("save", save)?;
    let start = || {
        println!("the store opens");
        Ok(())
    };
    Ok(api.on_start(start).on_stop(|| println!("the store closes")))
}

fn client(address: &Address) -> Result<(), Box<dyn Error>> {
    let neck = Neck::connect(address)?.start();
    let store = neck.api("store");
    let told = |outcome: Result<u64, CallError>| println!("swept: {outcome:?}");
    let sweeper = store.every(Duration::from_millis(20), "sweep", ()).then(told)?;
    while sweeper.n_issued() < 3 {
        thread::sleep(Duration::from_millis(5));
    }
    sweeper.stop();

    let saving = store.action("save", "the last word".to_owned()).start::<String>()?;
    // By now it is at the store: an answer that came behind it has come back.
    store.action("sweep", ()).call::<u64>()?;
    Command::new("sh").args(["-c", &format!("kill -TERM {}", process::id())]).status()?;
    println!("{}", saving.wait()?);
    Ok(())
}
