//! What the parent serves: a desk where the child reports how far it is, and has things signed.

use std::{
    sync::mpsc::{self, Receiver},
    time::Duration,
};

use nape::{Api, ApiError, Attached, Context, Endpoint, Fault};

use super::survey::Step;

/// The API of the parent, served.
pub(crate) struct Desk {
    attached: Attached,
    steps: Receiver<Step>,
    late: Receiver<Duration>,
}

impl Desk {
    /// Serves it from now on. One worker, so that the steps stay in their order.
    pub(crate) fn open(endpoint: &Endpoint) -> Result<Desk, ApiError> {
        let (stepped, steps) = mpsc::channel();
        let (delayed, late) = mpsc::channel();
        let desk = Api::new("desk")
            .workers(1)
            .handle("step", move |_: &Context, step: Step| -> Result<(), Fault> { Ok(stepped.send(step)?) })?
            .handle("late", move |_: &Context, time| -> Result<(), Fault> { Ok(delayed.send(time)?) })?;
        Ok(Desk { attached: endpoint.attach(desk)?, steps, late })
    }

    /// The steps that the child has reported.
    pub(crate) fn steps(&self) -> &Receiver<Step> {
        &self.steps
    }

    /// The times that handlers have taken for nobody.
    pub(crate) fn late(&self) -> &Receiver<Duration> {
        &self.late
    }

    /// Adds a handler while everything runs: from now on `desk.sign` is answered.
    pub(crate) fn start_to_sign(&self) -> Result<(), ApiError> {
        let process = std::process::id();
        self.attached.handle("sign", move |_: &Context, report: String| {
            Ok::<_, Fault>(format!("{} characters seen by process {process}", report.chars().count()))
        })
    }
}
