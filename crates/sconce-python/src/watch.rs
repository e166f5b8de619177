//! Reading from and writing to a worker that may never answer: until a deadline, and until nobody
//! wants the answer any more.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// So often somebody who waits looks whether there is still a reason to.
pub(crate) const TICK: Duration = Duration::from_millis(50);

/// A connection to a worker, with patience.
pub(crate) struct Patient<'a> {
    link: &'a UnixStream,
    deadline: Instant,
    /// Whether to give up at once.
    stop: &'a dyn Fn() -> bool,
    /// Whether the deadline has passed.
    pub(crate) expired: bool,
}

impl<'a> Patient<'a> {
    /// The link must have timeouts of [`TICK`]: see [`prepare`].
    pub(crate) fn new(link: &'a UnixStream, deadline: Instant, stop: &'a dyn Fn() -> bool) -> Self {
        Self {
            link,
            deadline,
            stop,
            expired: false,
        }
    }

    fn until_ready(
        &mut self,
        mut attempt: impl FnMut(&UnixStream) -> io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            if Instant::now() >= self.deadline {
                self.expired = true;
                return Err(ErrorKind::TimedOut.into());
            }
            match attempt(self.link) {
                Err(error) if is_pause(&error) && !(self.stop)() => {}
                result => return result,
            }
        }
    }
}

/// Gives a link the timeouts that waiting with patience needs.
pub(crate) fn prepare(link: &UnixStream) -> io::Result<()> {
    link.set_read_timeout(Some(TICK))?;
    link.set_write_timeout(Some(TICK))
}

fn is_pause(error: &io::Error) -> bool {
    let pauses = [
        ErrorKind::WouldBlock,
        ErrorKind::TimedOut,
        ErrorKind::Interrupted,
    ];
    pauses.contains(&error.kind())
}

impl Read for Patient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.until_ready(|mut link| link.read(buffer))
    }
}

impl Write for Patient<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.until_ready(|mut link| link.write(buffer))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn pair() -> (UnixStream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        prepare(&ours).unwrap();
        (ours, theirs)
    }

    #[test]
    fn a_silent_worker_is_waited_for_until_the_deadline() {
        let (ours, _theirs) = pair();
        let deadline = Instant::now() + Duration::from_millis(120);
        let mut patient = Patient::new(&ours, deadline, &|| false);
        assert!(patient.read(&mut [0]).is_err());
        assert!(patient.expired && Instant::now() >= deadline);
    }

    #[test]
    fn a_worker_that_nobody_waits_for_is_left_at_once() {
        let (ours, _theirs) = pair();
        let asked = Cell::new(0);
        let stop = || asked.replace(asked.get() + 1) == 1;
        let mut patient = Patient::new(&ours, Instant::now() + Duration::from_secs(60), &stop);
        assert!(patient.read(&mut [0]).is_err());
        assert!(!patient.expired);
    }

    #[test]
    fn a_request_larger_than_the_socket_s_buffer_passes() {
        let (ours, mut theirs) = pair();
        let reading = std::thread::spawn(move || {
            let mut all = Vec::new();
            theirs.read_to_end(&mut all).unwrap();
            all.len()
        });
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut patient = Patient::new(&ours, deadline, &|| false);
        patient.write_all(&vec![7; 9 << 20]).unwrap();
        drop(ours);
        assert_eq!(reading.join().unwrap(), 9 << 20);
    }
}
