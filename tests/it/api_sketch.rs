//! The shape of the interface by name, written down as a user would, and run.

use nape::{Api, AsyncResult, CallError, Context, Fault, Payload, Responder, Semaphore, WhenFull};
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, time::Duration};

use crate::{
    support::{HANG, Kind},
    tools::only,
};

on_every_link! { the_sketch_compiles_and_runs }

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Count(usize);

#[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{0} cannot be surveyed")]
struct SurveyError(String);

fn the_sketch_compiles_and_runs(kind: Kind) {
    sketch(kind).unwrap();
}

fn sketch(kind: Kind) -> nape::Result<()> {
    let (head, neck) = kind.ends();
    let survey = Api::new("survey")
        .workers(2)
        .queue(256, WhenFull::Refuse)
        .handle("count", |_: &Context, dir: PathBuf| -> Result<Count, SurveyError> { count(&dir) })?
        .handle("files.largest", |_: &Context, (dir, n): (PathBuf, usize)| -> Result<Vec<PathBuf>, Fault> {
            std::str::from_utf8(dir.as_os_str().as_encoded_bytes())?;
            Ok(vec![dir; n])
        })?
        .handle("quality", |_: &Context, _percent: u8| Ok::<(), Fault>(()))?
        .deferred("render", |_: Context, job: u32, answer: Responder<String>| answer.answer(job.to_string()))?
        .otherwise(|_: &Context, raw: Payload| -> Result<Payload, Fault> { Ok(raw) })?;
    let attached = neck.attach(survey)?;
    let _neck = neck.start();

    let dir = PathBuf::from("some/where");
    let survey = head.api("survey").timeout(Duration::from_secs(5));
    let n = survey.action("count", dir.clone()).timeout(Duration::from_secs(2)).call::<Count>()?;
    assert_eq!(n, Count(2));
    let mut r = survey.action("count", dir.clone()).start::<Count>()?;
    let _ = (r.is_done(), r.elapsed());
    let early = r.try_wait()?;
    let value = match early {
        Some(value) => value,
        None => r.wait_timeout(HANG)?.expect("it came in time"),
    };
    assert_eq!(value, n);
    let cancelled: AsyncResult<String> = survey.action("render", 1u32).start()?;
    cancelled.cancel();
    let semaphore = Semaphore::new(0);
    let r = survey.action("render", 7u32).releasing(&semaphore).start::<String>()?;
    semaphore.acquire();
    assert_eq!(r.wait()?, "7");
    let (tell, told) = crossbeam_channel::bounded(1);
    survey
        .action("count", dir.clone())
        .then(move |outcome: Result<Count, CallError>| tell.send(outcome).unwrap())?;
    assert_eq!(only(&told)?, n);
    survey.action("quality", 80u8).fire()?;
    let n: Option<Count> = survey.action("count", dir.clone()).ignore_errors().call()?;
    assert!(n.is_some());
    assert_eq!(survey.action("files.largest", (dir.clone(), 2usize)).call::<Vec<PathBuf>>()?.len(), 2);
    assert_eq!(survey.action("else.where", "raw".to_owned()).call::<String>()?, "raw");
    let error = survey.action("count", PathBuf::new()).call::<Count>().unwrap_err();
    assert_eq!(error.fault().and_then(Fault::typed), Some(SurveyError("nothing".into())));

    attached.replace("count", |_: &Context, _: PathBuf| Ok::<_, SurveyError>(Count(0)))?;
    assert_eq!(survey.action("count", dir.clone()).call::<Count>()?, Count(0));
    attached.detach();
    assert!(matches!(survey.action("count", dir).call::<Count>(), Err(CallError::Rejected(_))));
    Ok(())
}

fn count(dir: &std::path::Path) -> Result<Count, SurveyError> {
    match dir.components().count() {
        0 => Err(SurveyError("nothing".into())),
        n => Ok(Count(n)),
    }
}
