//! Looks into a program while it works: what it serves, who waits for what, how long its handlers take, and the
//! events that come to it.
//!
//! The other side could be another program as well, or a shell tool that knows no type of this one.

use std::time::Duration;

use nape::{
    Api, Context, Fault, Head, Inspection, Inspector, Result,
    inspect::{EventArguments, PathKind},
};

/// Takes a while for large orders.
fn bake(_: &Context, (what, n): (String, u64)) -> std::result::Result<String, Fault> {
    std::thread::sleep(Duration::from_millis(n));
    Ok(format!("{n} {what}"))
}

fn main() -> Result<()> {
    let bakery = Api::new("bakery")
        .workers(1)
        .handle("bake", bake)?
        .handle("smell", |_: &Context, _: String| Ok::<_, Fault>(()))?;
    let (head, neck) = Head::in_process()?;
    let _neck = neck.serve(bakery)?.serve(Inspection::new().into_api())?.start();

    let inspector = Inspector::on(&head);
    let version = inspector.version().call()?;
    println!("{} of process {}, nape {}", version.side, version.pid, version.library);
    for info in inspector.list().call()? {
        println!("  {:<16} {:?} {}", info.path, info.kind, info.doc);
    }
    assert_eq!(inspector.describe("bakery.bake").call()?.kind, PathKind::Call);

    // One order is made, and another one waits.
    let bakery = head.api("bakery");
    let large = bakery.action("bake", ("rolls".to_owned(), 300u64)).start::<String>()?;
    let small = bakery.action("bake", ("cake".to_owned(), 1u64)).start::<String>()?;
    for running in inspector.in_flight().call()?.iter().flat_map(|link| &link.handlers) {
        println!("{} for {} us: {:?}", running.path, running.age_us, running.stage);
    }
    for pool in inspector.pools().call()? {
        println!("{:>8}: {} of {} busy, {} wait", pool.namespace, pool.running, pool.workers, pool.waiting);
    }
    println!("{} and {}", large.wait()?, small.wait()?);
    for method in inspector.methods().call()?.iter().filter(|it| it.path.starts_with("bakery")) {
        println!("{:<16} {} calls, p99 {:?}", method.path, method.calls, Duration::from_nanos(method.p99_ns));
    }

    // Events as they come: from when the tail has begun, which is when it has seen one.
    let mut tail = inspector.tail("bakery").open()?;
    let seen = std::thread::scope(|scope| {
        let (stop, stopped) = std::sync::mpsc::sync_channel::<()>(1);
        scope.spawn(move || {
            while stopped.try_recv().is_err() {
                let _ = bakery.action("smell", "fresh bread".to_owned()).fire();
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let seen = tail.next();
        let _ = stop.send(());
        seen
    });
    let event = seen.expect("it goes on until it is dropped")?;
    let EventArguments::Json(text) = event.arguments else { panic!("a value that moves is shown") };
    println!("event to {}: {text}", event.path);
    Ok(())
}
