//! Panics, cancellations, deadlines and limits, on a paused clock.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::*;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(1)
}

fn tasks() -> Tasks {
    Tasks::new(Handle::current())
}

#[tokio::test(start_paused = true)]
async fn many_callers_share_one_piece_of_work() {
    let (flights, tasks, runs) = (Flights::new(8), tasks(), Arc::new(AtomicUsize::new(0)));
    let joined: Vec<_> = (0..100)
        .map(|_| {
            let runs = runs.clone();
            let work = |_| async move { runs.fetch_add(1, Ordering::SeqCst) };
            flights.join(b"k", &tasks, "work", work).expect("room")
        })
        .collect();
    assert_eq!(joined.iter().filter(|f| f.leader).count(), 1);
    for flight in joined {
        assert_eq!(flight.outcome(soon()).await, Ok(0));
    }
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    assert!(flights.is_empty());
}

#[tokio::test(start_paused = true)]
async fn dropping_the_leaders_flight_does_not_cancel_the_work() {
    let (flights, tasks, go) = (Flights::new(8), tasks(), Arc::new(Notify::new()));
    let wait = go.clone();
    let leader = flights.join(b"k", &tasks, "work", |_| async move {
        wait.notified().await;
        7
    });
    let waiter = flights.join(b"k", &tasks, "work", |_| async { 8 }).expect("room");
    drop(leader);
    go.notify_one();
    assert_eq!(waiter.outcome(soon()).await, Ok(7));
}

#[tokio::test(start_paused = true)]
async fn a_panic_reaches_every_waiter_and_frees_the_key() {
    let (flights, tasks) = (Flights::<u32>::new(8), tasks());
    let a = flights.join(b"k", &tasks, "work", |_| async { panic!("planned") }).expect("room");
    let b = flights.join(b"k", &tasks, "work", |_| async { 1 }).expect("room");
    assert_eq!(a.outcome(soon()).await, Err(Error::Lost));
    assert_eq!(b.outcome(soon()).await, Err(Error::Lost));
    let again = flights.join(b"k", &tasks, "work", |_| async { 2 }).expect("room");
    assert_eq!(again.outcome(soon()).await, Ok(2));
}

#[tokio::test(start_paused = true)]
async fn hanging_work_keeps_no_caller_beyond_its_deadline() {
    let (flights, tasks) = (Flights::<u32>::new(8), tasks());
    let began = Instant::now();
    let hang = |_| std::future::pending();
    let short = flights.join(b"k", &tasks, "work", hang).expect("room");
    let long = flights.join(b"k", &tasks, "work", |_| async { 1 }).expect("room");
    let (short, long) = tokio::join!(
        short.outcome(began + Duration::from_millis(10)),
        long.outcome(began + Duration::from_millis(500)),
    );
    assert_eq!((short, long), (Err(Error::Deadline), Err(Error::Deadline)));
    assert_eq!(began.elapsed(), Duration::from_millis(500));
}

#[tokio::test(start_paused = true)]
async fn a_detached_flight_neither_takes_later_callers_nor_frees_its_successor() {
    let (flights, tasks, go) = (Flights::new(8), tasks(), Arc::new(Notify::new()));
    let wait = go.clone();
    let old = flights.join(b"k", &tasks, "work", |_| async move {
        wait.notified().await;
        "old"
    });
    assert!(!flights.is_forgotten(b"k", 1));
    flights.forget(b"k");
    assert!(flights.is_forgotten(b"k", 1));
    let hold = Arc::new(Notify::new());
    let wait = hold.clone();
    let new = flights.join(b"k", &tasks, "work", |_| async move {
        wait.notified().await;
        "new"
    });
    assert!(flights.is_forgotten(b"k", 1) && !flights.is_forgotten(b"k", 2));
    go.notify_one();
    assert_eq!(old.expect("room").outcome(soon()).await, Ok("old"));
    assert_eq!(flights.len(), 1, "the end of the old flight does not free the new one");
    hold.notify_one();
    assert_eq!(new.expect("room").outcome(soon()).await, Ok("new"));
}

#[tokio::test(start_paused = true)]
async fn another_key_is_refused_at_the_limit_and_another_caller_is_not() {
    let (flights, tasks) = (Flights::<u32>::new(1), tasks());
    let hang = |_| std::future::pending();
    let _first = flights.join(b"a", &tasks, "work", hang).expect("room");
    assert!(!flights.join(b"a", &tasks, "work", hang).expect("same key").leader);
    let refused = flights.join(b"b", &tasks, "work", hang).expect_err("full");
    assert_eq!(refused, Error::Full { max: 1 });
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_flights_with_every_ending_leave_nothing_behind() {
    let (flights, tasks) = (Flights::new(64), tasks());
    for round in 0_u32..10_000 {
        let key = (round % 7).to_le_bytes();
        let flight = flights.join(&key, &tasks, "work", move |_| async move {
            // Some wait until the paused clock has advanced past an early deadline.
            if round % 3 == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            if round % 5 == 0 {
                // A panic that does not print a message.
                std::panic::resume_unwind(Box::new("planned"));
            }
            round
        });
        match round % 4 {
            0 => drop(flight),
            1 => {
                let early = Instant::now() + Duration::from_millis(1);
                let _ = flight.expect("room").outcome(early).await;
            }
            _ => {
                let _ = flight.expect("room").outcome(soon()).await;
            }
        }
    }
    assert_eq!(tasks.stop(Duration::from_secs(1)).await, Ok(()));
    assert_eq!((flights.len(), tasks.running()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_work_sees_the_latest_deadline_of_its_callers() {
    let (flights, tasks) = (Flights::<Option<Instant>>::new(8), tasks());
    let began = Instant::now();
    let work = |work: FlightWork| async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        work.latest_deadline.get()
    };
    let short = flights.join(b"k", &tasks, "work", work).expect("room");
    let long = flights.join(b"k", &tasks, "work", work).expect("room");
    let middle = flights.join(b"k", &tasks, "work", work).expect("room");
    let at = |ms| began + Duration::from_millis(ms);
    let (short, long, _) =
        tokio::join!(short.outcome(at(10)), long.outcome(at(900)), middle.outcome(at(500)));
    assert_eq!((short, long), (Err(Error::Deadline), Ok(Some(at(900)))));
}
