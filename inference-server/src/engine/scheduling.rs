//! How the kernel schedules workers beside the threads that read requests.

/// Marks the calling thread as one that gives way (`SCHED_BATCH`): when it is woken it does not interrupt whoever runs on its processor, and its share of
/// the time stays the same. Where workers share processors with the threads that read requests, they would otherwise interrupt these at each request
/// that arrives, and run batches of one: on one core that costs half of the throughput. On an idle processor nothing changes.
#[expect(unsafe_code, reason = "no crate that is kept up has this call")]
pub fn give_way() {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the call reads `parameters`, which outlives it, and keeps no pointer. 0 is the calling thread.
    let status = unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) };
    if status != 0 {
        // A sandbox may forbid it. Batches are smaller then, nothing else.
        let error = std::io::Error::last_os_error();
        tracing::debug!(%error, "workers keep the usual scheduling policy");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_thread_that_gives_way_says_so_to_the_kernel() {
        let policy = || {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            // The name may hold blanks: fields are counted from its end. The policy is field 41.
            let mut fields = stat.rsplit(')').next().unwrap().split_whitespace();
            fields.nth(38).unwrap().parse::<i32>().unwrap()
        };
        std::thread::spawn(move || {
            assert_eq!(policy(), libc::SCHED_OTHER);
            super::give_way();
            assert_eq!(policy(), libc::SCHED_BATCH);
        })
        .join()
        .unwrap();
    }
}
