//! A program that Prometheus reads: calls, faults, times and bytes of each path. It reads itself once, and
//! ends.
//!
//! ```text
//! cargo run --example prometheus --features metrics
//! ```

use std::{
    error::Error,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    thread,
};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use nape::{Api, Context, Fault, Head, Neck, layers::Metrics};

fn main() -> Result<(), Box<dyn Error>> {
    // First of all: counters go to the recorder that there is when they are used for the first time.
    let recorder = PrometheusBuilder::new().install_recorder()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || serve(&listener, &recorder));
    println!("Prometheus may read http://{address}/metrics");

    let square_root = |_: &Context, n: f64| match n {
        0.0.. => Ok(n.sqrt()),
        _ => Err(Fault::new("it has no square root")),
    };
    let math = Api::new("math").handle("square_root", square_root)?;
    let neck = Neck::builder().layer(Metrics::new()).serve(math);
    // Encoded, as between two processes, so that there are bytes to count.
    let (head, neck) = Head::builder().layer(Metrics::new()).in_process_encoded(neck)?;
    let _neck = neck.start();
    for n in [4.0, 9.0, -1.0] {
        match head.api("math").action("square_root", n).call::<f64>() {
            Ok(root) => println!("the square root of {n} is {root}"),
            Err(error) => println!("{n}: {error}"),
        }
    }

    let mut page = String::new();
    let mut prometheus = TcpStream::connect(address)?;
    prometheus.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    prometheus.read_to_string(&mut page)?;
    let ours: Vec<_> = page.lines().filter(|line| line.starts_with("nape_")).collect();
    ours.iter().for_each(|line| println!("{line}"));
    let faults = ours.iter().filter(|line| line.contains("outcome=\"fault\"") && line.ends_with(" 1"));
    assert_eq!(faults.count(), 2, "one where it was called, and one where it was served");
    Ok(())
}

/// The page with the numbers, for whoever asks: as little of a web server as Prometheus needs.
fn serve(listener: &TcpListener, recorder: &PrometheusHandle) -> Result<(), std::io::Error> {
    for stream in listener.incoming() {
        let mut stream = stream?;
        // The head of a request ends with an empty line; nothing in it matters here.
        let lines = BufReader::new(&stream).lines();
        lines.map_while(Result::ok).take_while(|line| !line.is_empty()).for_each(drop);
        let page = recorder.render();
        let head =
            format!("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n", page.len());
        stream.write_all(head.as_bytes())?;
        stream.write_all(page.as_bytes())?;
        recorder.run_upkeep();
    }
    Ok(())
}
