//! What the types themselves promise.

use std::mem::size_of;

use nape::{
    Action, Api, ApiArb, ApiHandle, AsyncResult, Attached, CallError, CancelToken, CloseReason, Context,
    Endpoint, Error, Fault, Handler, Head, Neck, Path, Payload, Responder, Semaphore, StartError,
};

fn everywhere<T: Send + Sync + 'static>() {}
fn movable<T: Send + 'static>() {}
fn cheap<T: Clone + Send + Sync + 'static>() {}

#[test]
fn every_handle_can_go_to_any_thread() {
    everywhere::<Head>();
    everywhere::<Neck>();
    movable::<Api>();
    movable::<Payload>();
    movable::<Action<Vec<u8>>>();
    everywhere::<AsyncResult<Vec<u8>>>();
    everywhere::<Responder<Vec<u8>>>();
    cheap::<Endpoint>();
    cheap::<ApiHandle>();
    cheap::<ApiArb>();
    cheap::<Attached>();
    cheap::<Handler>();
    cheap::<Context>();
    cheap::<CancelToken>();
    cheap::<Semaphore>();
    cheap::<Path>();
}

#[test]
fn one_dead_link_can_fail_many_callers() {
    cheap::<CallError>();
    cheap::<CloseReason>();
    cheap::<StartError>();
    cheap::<Error>();
    cheap::<Fault>();
}

#[test]
fn an_error_is_small_enough_to_be_returned_by_value() {
    assert!(size_of::<CallError>() <= 80, "{}", size_of::<CallError>());
}
