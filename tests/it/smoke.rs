use nape::*;
use std::time::{Duration, Instant};

fn each(f: impl Fn(Head, Neck)) {
    let (h, n) = Head::in_process().unwrap();
    eprintln!("direct");
    f(h, n);
    let (h, n) = Head::builder().in_process_encoded(Neck::builder()).unwrap();
    eprintln!("memory");
    f(h, n);
    let (a, b) = transport::ipc_pair().unwrap();
    eprintln!("ipc");
    f(Head::builder().over(a).unwrap(), Neck::builder().over(b).unwrap());
}

#[test]
fn smoke() {
    each(|h, n| {
        let api = Api::new("t")
            .handle("add", |_: &Context, (a, b): (u64, u64)| Ok::<_, Fault>(a + b))
            .unwrap()
            .handle("slow", |cx: &Context, ms: u64| {
                Ok::<_, Fault>(cx.cancel_token().wait_timeout(Duration::from_millis(ms)))
            })
            .unwrap()
            .handle("boom", |_: &Context, _: ()| -> Result<(), Fault> { panic!("boom") })
            .unwrap()
            .handle("back", |cx: &Context, x: u64| {
                Ok::<_, Fault>(cx.api("h").action("inc", x).call::<u64>()?)
            })
            .unwrap();
        h.attach(Api::new("h").handle("inc", |_: &Context, x: u64| Ok::<_, Fault>(x + 1)).unwrap()).unwrap();
        let n = n.serve(api).unwrap().start();
        let t = h.api("t");
        for i in 0..100u64 {
            assert_eq!(t.action("add", (i, 2u64)).call::<u64>().unwrap(), i + 2);
        }
        let s = Instant::now();
        let e = t.action("slow", 500u64).timeout(Duration::from_millis(50)).call::<bool>();
        eprintln!("{e:?} {:?}", s.elapsed());
        eprintln!("{:?}", t.action("boom", ()).call::<()>());
        eprintln!("{:?}", t.action("nope", ()).call::<()>());
        eprintln!("{:?}", n.api("nope").action("x", ()).call::<()>());
        assert_eq!(t.action("back", 4u64).call::<u64>().unwrap(), 5);
        let rs: Vec<_> = (0..200u64).map(|i| t.action("add", (i, i)).start::<u64>().unwrap()).collect();
        for (i, r) in rs.into_iter().enumerate() {
            assert_eq!(r.wait().unwrap(), 2 * i as u64);
        }
        let s = Instant::now();
        for i in 0..20000u64 {
            t.action("add", (i, 2u64)).call::<u64>().unwrap();
        }
        eprintln!("{:?} a call", s.elapsed() / 20000);
        eprintln!("{:?}", h.counters());
        let s = Instant::now();
        drop(h);
        eprintln!("drop head {:?}", s.elapsed());
        n.wait().unwrap();
        eprintln!("{:?}", n.close_reason());
        drop(n);
        eprintln!("drop all {:?}", s.elapsed());
    });
}
