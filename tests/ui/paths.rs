//! Paths that cannot be one, and names that are taken.

#[nape::api("a..b")]
trait Namespace {}

#[nape::api("a")]
trait Paths {
    #[path = ""]
    fn empty(&self);
    #[path = "a b"]
    fn blank(&self);
    #[path = "x.y"]
    fn one(&self);
    #[path = "x.y"]
    fn two(&self);
    #[path = "one_more"]
    fn three(&self);
    fn one_more(&self);
    fn into_api(&self);
    fn on(&self);
}

fn main() {}
