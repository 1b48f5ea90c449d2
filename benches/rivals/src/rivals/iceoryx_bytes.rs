//! Bytes over iceoryx2. They are copied into shared memory once at each side, because a caller has them
//! somewhere else and an answer is made and not passed on; nobody copies them out.

use std::{thread, time::Duration};

use iceoryx2::{
    port::client::Client, prelude::*, service::port_factory::request_response::PortFactory as Services,
};

use crate::{
    contender::Body,
    rivals::iceoryx::{Bell, service_name},
};

/// What the caller does, over services of that name.
pub(crate) fn body(node: &Node<ipc::Service>, services: &str, bell: Bell) -> Body {
    let echoes = echoes(node, services);
    while echoes.dynamic_config().number_of_servers() == 0 {
        thread::sleep(Duration::from_millis(1));
    }
    let client = echoes.client_builder().initial_max_slice_len(LARGEST).create();
    let caller = Caller { client: client.expect("there is room for one"), bell };
    Body::Echo(Box::new(move |bytes, show| caller.echo(bytes, show)))
}

/// What the callee does.
pub(crate) fn serve(node: &Node<ipc::Service>, services: &str, bell: Bell) {
    let echoes = echoes(node, services);
    let server = echoes.server_builder().initial_max_slice_len(LARGEST).create();
    let server = server.expect("there is room for one");
    loop {
        while let Some(request) = server.receive().expect("the caller is connected") {
            if request.len() == BYE.len() {
                return;
            }
            let answer = request.loan_slice_uninit(request.len()).expect("there is room for an answer");
            answer.write_from_slice(&request).send().expect("the caller is connected");
            bell.ring();
        }
        bell.wait();
    }
}

struct Caller {
    client: Client<ipc::Service, [u8], (), [u8], ()>,
    bell: Bell,
}

impl Caller {
    fn echo(&self, bytes: &[u8], show: &dyn Fn(&[u8])) -> bool {
        let request = self.client.loan_slice_uninit(bytes.len()).expect("there is room for it");
        let pending = request.write_from_slice(bytes).send().expect("the callee is connected");
        self.bell.ring();
        loop {
            if let Some(answer) = pending.receive().expect("the callee is connected") {
                show(&answer);
                return true;
            }
            self.bell.wait();
        }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let request = self.client.loan_slice_uninit(BYE.len()).expect("there is room for it");
        let bye = request.write_from_slice(BYE).send().expect("the callee is connected");
        self.bell.ring();
        // The callee has to see it while it is pending.
        while bye.is_connected() {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn echoes(node: &Node<ipc::Service>, name: &str) -> Services<ipc::Service, [u8], (), [u8], ()> {
    node.service_builder(&service_name(name, "echoes"))
        .request_response::<[u8], [u8]>()
        .max_active_requests_per_client(1)
        .max_loaned_requests(1)
        .open_or_create()
        .expect("both sides ask for the same")
}

/// No payload is as short as this.
const BYE: &[u8] = b"bye";
const LARGEST: usize = 16 << 20;
