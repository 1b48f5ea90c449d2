//! A server that runs already, and clients that come and go: a chat room. This program is all of them.
//!
//! ```text
//! cargo run --example sockets
//! ```

use std::{
    env,
    error::Error,
    process::{self, Command},
    thread,
    time::Duration,
};

use nape::{Address, Api, Backlog, Context, Fault, Head, Missed, Neck, StartError, Token, Topic};

fn main() -> Result<(), Box<dyn Error>> {
    match env::args().collect::<Vec<_>>().as_slice() {
        [_, address, name] => client(address, name),
        _ => server(),
    }
}

/// Says something in the room, and hears what is said there until somebody has said goodbye.
fn client(address: &str, name: &str) -> Result<(), Box<dyn Error>> {
    let room = Neck::connect(address)?.start();
    let mut heard = room.subscribe::<String>("room.said", Backlog::drop_oldest(16))?;
    let say = |words: &str| room.api("room").action("say", format!("{name}: {words}")).call::<usize>();
    println!("[{name}] {} of us are here", say("hello")?);
    for words in heard.by_ref() {
        match words {
            Ok(words) => println!("[{name}] heard {words}"),
            Err(Missed::Lagged(n)) => println!("[{name}] missed {n}"),
            Err(_) => break,
        }
    }
    println!("[{name}] the room is closed");
    Ok(())
}

fn server() -> Result<(), Box<dyn Error>> {
    let address = Address::unix(env::temp_dir().join(format!("room-{}.sock", process::id())))?;
    let said = Topic::<String>::new();
    let publish = said.clone();
    let say = move |_: &Context, words: String| Ok::<_, Fault>(publish.publish(words).taken);
    let room = Api::new("room").handle("say", say)?.topic("said", &said)?;
    let listener = Head::builder()
        .serve(room)
        .listening()
        .max_peers(8)
        .on_arrival(|peer| {
            println!("{} has come: process {:?}", peer.id(), peer.credentials().and_then(|of| of.pid))
        })
        .on_departure(|peer, why| println!("{} has gone: {why}", peer.id()))
        .listen(&address)?;
    println!("listening at {}", listener.address());

    let this = env::current_exe()?;
    let mut clients = Vec::new();
    for name in ["anna", "ben"] {
        clients.push(Command::new(&this).args([&*address.to_string(), name]).spawn()?);
        listener.accept(Duration::from_secs(10)).ok_or("nobody has come")?;
    }
    while said.n_subscriptions() < 2 {
        thread::sleep(Duration::from_millis(5));
    }
    said.publish("the room closes".into());

    // Over TCP nobody comes in without the token.
    let over_tcp = Head::listen("tcp:127.0.0.1:0")?;
    let stranger = Neck::builder().token(Token::random()?).connect(over_tcp.address());
    if let Err(nape::Error::Start(StartError::NotMet { reason, .. })) = stranger {
        println!("a stranger is not let in: {reason}");
    }

    // What is under way may end; then everybody is told goodbye.
    println!("all had ended: {}", listener.shut_down(Duration::from_secs(5)));
    clients.into_iter().try_for_each(|mut client| client.wait().map(drop))?;
    Ok(())
}
