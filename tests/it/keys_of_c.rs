//! Thread locals of C, whose destructors run behind all that Rust has to run at the end of a thread.

#![allow(unsafe_code)]

use std::{
    ffi::c_void,
    sync::{Condvar, Mutex, OnceLock},
    time::{Duration, Instant},
};

use nape::{Api, Config, Context, Fault, Head, Neck};

use crate::tools::LONG;

/// Whether the destructor may end.
static MAY_END: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

extern "C" fn takes_its_time(_: *mut c_void) {
    let lock = MAY_END.0.lock().unwrap();
    drop(MAY_END.1.wait_timeout_while(lock, LONG, |may_end| !*may_end).unwrap());
}

fn leave_with_this_thread() {
    static KEY: OnceLock<libc::pthread_key_t> = OnceLock::new();
    let key = *KEY.get_or_init(|| {
        let mut key = 0;
        // SAFETY: the destructor takes no notice of what it is given.
        assert_eq!(unsafe { libc::pthread_key_create(&mut key, Some(takes_its_time)) }, 0);
        key
    });
    // SAFETY: nobody looks behind what is kept.
    assert_eq!(unsafe { libc::pthread_setspecific(key, std::ptr::without_provenance(1)) }, 0);
}

/// Red when a thread is joined as soon as nothing of Rust's is left in it.
#[test]
fn p_24_dropping_does_not_wait_for_what_c_has_left_with_a_thread() {
    crate::support::watched(|| {
        let leaves = |_: &Context, n: u64| {
            leave_with_this_thread();
            Ok::<_, Fault>(n)
        };
        let config = || Config::new().grace(Duration::from_millis(100));
        let neck = Neck::builder().config(config()).serve(Api::new("a").handle("b", leaves).unwrap());
        let (head, neck) = Head::builder().config(config()).in_process_with(neck).unwrap();
        let neck = neck.start();
        assert_eq!(head.api("a").action("b", 1u64).call::<u64>().unwrap(), 1);
        let began = Instant::now();
        drop((neck, head));
        let took = began.elapsed();
        *MAY_END.0.lock().unwrap() = true;
        MAY_END.1.notify_all();
        assert!(took < LONG / 2, "{took:?}");
    });
}
