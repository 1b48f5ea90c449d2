//! What stands before `fn`, and before `trait`.

#[nape::api("a")]
unsafe trait Unsafe {}

#[nape::api("a")]
trait Qualified {
    async fn asynchronous(&self);
    unsafe fn not_safe(&self);
    extern "C" fn foreign(&self);
    fn body(&self) -> u8 {
        1
    }
    fn variadic(&self, _: ...);
    fn fine(&self) -> u8;
}

// Each mistake gives one message: what is right can be used.
fn use_it(head: &nape::Head, served: impl Qualified) -> Result<nape::Api, nape::CallError> {
    let _: u8 = QualifiedClient::on(head).fine().call()?;
    Ok(served.into_api())
}

fn main() {}
