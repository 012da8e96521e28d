//! A worker that meets panics and failures, wherever they come from.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::mpsc;

use super::*;
use crate::tensor::Values;

/// Doubles; panics on 666, fails on 13, refuses 7.
struct Moody;

impl Engine for Moody {
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        let Values::Int64(values) = inputs[0].values() else {
            return Err(RunError::Input("type".to_owned()));
        };
        assert!(!values.contains(&666), "moody");
        if values.contains(&13) {
            return Err(RunError::Failed("device".to_owned()));
        }
        if values.contains(&7) {
            return Err(RunError::Input("seven".to_owned()));
        }
        let doubled = values.iter().map(|value| value * 2).collect();
        Ok(vec![
            Tensor::new(inputs[0].shape().to_vec(), Values::Int64(doubled)).unwrap(),
        ])
    }
}

type Answers = mpsc::Sender<(Vec<i64>, Result<Vec<Tensor>, RunError>)>;

struct TestJob {
    tensor: Vec<Tensor>,
    reply: Answers,
}

/// Panics while it is answered, as a batch would whose outputs cannot be told apart.
struct Unanswerable;

impl Job for Unanswerable {
    fn inputs(&self) -> &[Tensor] {
        &[]
    }
    fn divide(&self) -> Vec<Box<dyn Job>> {
        Vec::new()
    }
    fn finish(self: Box<Self>, _: Result<Vec<Tensor>, RunError>) {
        panic!("unanswerable");
    }
}

fn job(values: Vec<i64>, reply: &Answers) -> Box<dyn Job> {
    let tensor = vec![Tensor::new(vec![values.len()], Values::Int64(values)).unwrap()];
    Box::new(TestJob {
        tensor,
        reply: reply.clone(),
    })
}

impl Job for TestJob {
    fn inputs(&self) -> &[Tensor] {
        &self.tensor
    }
    fn divide(&self) -> Vec<Box<dyn Job>> {
        let Values::Int64(values) = self.tensor[0].values() else {
            return Vec::new();
        };
        if values.len() < 2 {
            return Vec::new();
        }
        values.iter().map(|value| job(vec![*value], &self.reply)).collect()
    }
    fn finish(self: Box<Self>, result: Result<Vec<Tensor>, RunError>) {
        let Values::Int64(values) = self.tensor[0].values() else {
            return;
        };
        self.reply.send((values.clone(), result)).unwrap();
    }
}

struct Jobs(Mutex<VecDeque<Box<dyn Job>>>);

impl Source for Jobs {
    fn next(&self, _: &mut u64) -> Wake {
        let Some(job) = self.0.lock().unwrap().pop_front() else {
            return Wake::End;
        };
        // The mark of a batch that cannot be put together.
        assert!(
            job.inputs().first().is_none_or(|tensor| tensor.rows() != 0),
            "unassemblable"
        );
        Wake::Job(job)
    }
    fn check(&self) {}
    fn is_closed(&self) -> bool {
        false
    }
}

/// Counts of the living, by the worker's own account and by its events, and how often it lost its engine.
struct Counted {
    shared: Shared,
    events: Arc<Mutex<Vec<Event>>>,
}

fn counted(jobs: VecDeque<Box<dyn Job>>, factory: Factory) -> Counted {
    let events = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&events);
    let shared = Shared {
        source: Arc::new(Jobs(Mutex::new(jobs))),
        factory,
        alive: Arc::new(AtomicUsize::new(1)),
        on_event: Arc::new(move |event| told.lock().unwrap().push(event)),
    };
    Counted { shared, events }
}

/// An engine that takes anything.
struct Patient;

impl Engine for Patient {
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        Ok(inputs.to_vec())
    }
}

#[test]
fn a_panic_outside_the_run_costs_the_engine_and_not_the_worker() {
    let (reply, answers) = mpsc::channel();
    let jobs = [
        job(vec![1], &reply),
        Box::new(Unanswerable),
        job(vec![2], &reply),
        job(vec![], &reply),
        job(vec![3], &reply),
    ];
    let Counted { shared, events } = counted(jobs.into(), Arc::new(|| Ok(Box::new(Patient))));
    work(&Seat::new(Box::new(Patient)), &shared);
    drop((reply, shared.source));
    let answered: Vec<Vec<i64>> = answers.iter().map(|(values, _)| values).collect();
    assert_eq!(answered, [[1], [2], [3]]);
    assert_eq!(
        *events.lock().unwrap(),
        [Event::Lost, Event::Rebuilt, Event::Lost, Event::Rebuilt, Event::Ended]
    );
    assert_eq!(shared.alive.load(Ordering::Relaxed), 0);
}

#[test]
fn a_worker_whose_thread_dies_is_not_counted_any_more() {
    let Counted { mut shared, .. } = counted(VecDeque::new(), Arc::new(|| Ok(Box::new(Patient))));
    let alive = Arc::clone(&shared.alive);
    // Whoever is told panics: nothing in the loop can help.
    shared.on_event = Arc::new(|event| assert_eq!(event, Event::Ended, "told"));
    let (reply, _answers) = mpsc::channel();
    shared.source = Arc::new(Jobs(Mutex::new([job(vec![], &reply)].into())));
    assert!(
        std::thread::spawn(move || work(&Seat::new(Box::new(Patient)), &shared))
            .join()
            .is_err()
    );
    assert_eq!(alive.load(Ordering::Relaxed), 0);
}

#[test]
fn a_factory_that_panics_is_asked_again() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let (reply, answers) = mpsc::channel();
    let jobs = [job(vec![], &reply), job(vec![4], &reply)];
    let factory: Factory = Arc::new(move || {
        assert!(count.fetch_add(1, Ordering::Relaxed) > 0, "not the first time");
        Ok(Box::new(Patient))
    });
    let Counted { shared, .. } = counted(jobs.into(), factory);
    work(&Seat::new(Box::new(Patient)), &shared);
    assert_eq!(answers.try_recv().unwrap().0, [4]);
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[test]
fn panics_in_a_row_are_waited_for_longer_and_longer() {
    let delays: Vec<u64> = [2, 3, 4, 100]
        .into_iter()
        .map(|panics| delay_after(panics).as_millis() as u64)
        .collect();
    assert_eq!(delays, [200, 400, 800, 30_000]);
}

#[test]
fn a_bad_item_fails_alone_and_a_panic_costs_only_the_engine() {
    let (reply, answers) = mpsc::channel();
    let batches = [vec![1, 7, 3], vec![666], vec![4], vec![13], vec![13], vec![13], vec![5]];
    let jobs = batches.into_iter().map(|values| job(values, &reply)).collect();
    let restarts = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&restarts);
    let shared = Shared {
        source: Arc::new(Jobs(Mutex::new(jobs))),
        factory: Arc::new(|| Ok(Box::new(Moody))),
        alive: Arc::new(AtomicUsize::new(1)),
        on_event: Arc::new(move |event| {
            counter.fetch_add(usize::from(event == Event::Rebuilt), Ordering::Relaxed);
        }),
    };
    std::panic::set_hook(Box::new(|_| {}));
    work(&Seat::new(Box::new(Moody)), &shared);
    let _ = std::panic::take_hook();
    drop(reply);
    let answers: Vec<(Vec<i64>, Option<RunError>)> =
        answers.iter().map(|(values, result)| (values, result.err())).collect();
    let failed = |text: &str| Some(RunError::Failed(text.to_owned()));
    assert_eq!(
        answers,
        [
            (vec![1], None),
            (vec![7], Some(RunError::Input("seven".to_owned()))),
            (vec![3], None),
            (vec![666], failed("the engine panicked")),
            (vec![4], None),
            (vec![13], failed("device")),
            (vec![13], failed("device")),
            (vec![13], failed("device")),
            (vec![5], None),
        ]
    );
    assert_eq!(restarts.load(Ordering::Relaxed), 2);
    assert_eq!(shared.alive.load(Ordering::Relaxed), 0);
}

#[test]
fn requests_that_fail_beside_good_ones_do_not_cost_the_engine() {
    let (reply, answers) = mpsc::channel();
    // Each batch has two that fail: six failures, and six of others that are served.
    let batches = [vec![1, 13, 13, 2], vec![13, 3, 13, 4], vec![13, 13, 5, 6]];
    let jobs = batches.into_iter().map(|values| job(values, &reply)).collect();
    let Counted { shared, events } = counted(jobs, Arc::new(|| Ok(Box::new(Moody))));
    work(&Seat::new(Box::new(Moody)), &shared);
    drop((reply, shared.source));
    let served: Vec<i64> = answers
        .iter()
        .filter(|(_, result)| result.is_ok())
        .map(|(values, _)| values[0])
        .collect();
    assert_eq!(served, [1, 2, 3, 4, 5, 6]);
    assert_eq!(*events.lock().unwrap(), [Event::Ended]);
}

#[test]
fn an_engine_that_fails_again_and_again_is_replaced_while_its_worker_counts() {
    let (reply, answers) = mpsc::channel();
    let batches = [vec![13], vec![13, 13], vec![13], vec![8]];
    let jobs = batches.into_iter().map(|values| job(values, &reply)).collect();
    let alive = Arc::new(AtomicUsize::new(1));
    let (counts, seen) = (Arc::new(Mutex::new(Vec::new())), Arc::clone(&alive));
    let noted = Arc::clone(&counts);
    let factory: Factory = Arc::new(move || {
        noted.lock().unwrap().push(seen.load(Ordering::Relaxed));
        Ok(Box::new(Patient))
    });
    let Counted { mut shared, events } = counted(jobs, factory);
    shared.alive = alive;
    work(&Seat::new(Box::new(Moody)), &shared);
    assert_eq!(*counts.lock().unwrap(), [1], "while the other one is made");
    drop((reply, shared.source));
    assert_eq!(
        answers.iter().filter(|(_, result)| result.is_ok()).count(),
        1,
        "a batch that fails counts once"
    );
    assert_eq!(*events.lock().unwrap(), [Event::Lost, Event::Rebuilt, Event::Ended]);
}

#[test]
fn a_caller_may_run_on_an_idle_engine_and_what_he_breaks_is_seen_by_its_worker() {
    let (reply, answers) = mpsc::channel();
    let seat = Seat::new(Box::new(Moody));
    let run = |value: i64| seat.try_run(&mut || Some(job(vec![value], &reply)));
    assert_eq!(run(21), Some(Turn::Done));
    assert!(answers.recv().unwrap().1.is_ok());
    assert_eq!(seat.look(), Turn::Done);
    let busy = seat.lock();
    assert_eq!(
        seat.try_run(&mut || panic!("not asked for")),
        None,
        "its worker is at work"
    );
    drop(busy);
    assert_eq!(seat.try_run(&mut || None), None, "nothing to run");
    for expected in [Turn::Done, Turn::Done, Turn::Worn] {
        assert_eq!(run(13), Some(expected));
    }
    assert_eq!(seat.look(), Turn::Worn);
    assert_eq!(run(666), Some(Turn::Lost));
    let told: Vec<_> = answers.try_iter().map(|(_, result)| result.is_ok()).collect();
    assert_eq!(told, [false; 4], "everyone is answered");
    assert_eq!(seat.look(), Turn::Lost);
    assert_eq!(run(21), None, "there is no engine until the worker has made one");
    seat.put(Box::new(Moody));
    assert_eq!(run(21), Some(Turn::Done));
    assert_eq!(seat.try_run(&mut || Some(Box::new(Unanswerable))), Some(Turn::Lost));
}

/// Tells of a check once, and then of the end.
struct Checks(AtomicUsize);

impl Source for Checks {
    fn next(&self, checks: &mut u64) -> Wake {
        *checks = 1;
        match self.0.fetch_add(1, Ordering::Relaxed) {
            0 => Wake::Check,
            _ => Wake::End,
        }
    }
    fn check(&self) {}
    fn is_closed(&self) -> bool {
        false
    }
}

#[test]
fn a_worker_that_is_told_to_look_replaces_an_engine_that_is_gone_and_keeps_one_that_is_there() {
    for (seat, expected) in [
        (Seat::default(), vec![Event::Lost, Event::Rebuilt, Event::Ended]),
        (Seat::new(Box::new(Moody)), vec![Event::Ended]),
    ] {
        let Counted { mut shared, events } = counted(VecDeque::new(), Arc::new(|| Ok(Box::new(Moody))));
        shared.source = Arc::new(Checks(AtomicUsize::new(0)));
        work(&seat, &shared);
        assert_eq!(*events.lock().unwrap(), expected);
        assert_eq!(seat.look(), Turn::Done);
    }
}
