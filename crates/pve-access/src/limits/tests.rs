//! Who is refused, and who never is.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use pve_schema::clock::ManualClock;

use super::*;

struct Lab {
    limiter: Limiter,
    clock: Arc<ManualClock>,
    _root: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        Self::with(Limits { failures: 3 })
    }

    fn with(limits: Limits) -> Self {
        let root = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(1_000_000));
        let context = pve_testing::context(root.path(), "node1").with_clock(clock.clone());
        Self {
            limiter: Limiter::with_limits(&context, limits),
            clock,
            _root: root,
        }
    }

    fn guess(&self, user: &str, client: &str) -> Result<Guess<'_>, Refused> {
        self.limiter.guess(&user.parse().unwrap(), client.parse().ok())
    }

    fn fail(&self, user: &str, client: &str) -> Result<(), Refused> {
        self.guess(user, client).map(drop)
    }

    fn get_in(&self, user: &str, client: &str) -> Result<(), Refused> {
        self.guess(user, client).map(Guess::is_in)
    }

    /// Fails until it is refused, and tells how often that went well and why not any longer.
    fn exhaust(&self, user: &str, client: &str) -> (usize, Refused) {
        let mut count = 0;
        loop {
            match self.fail(user, client) {
                Ok(()) => count += 1,
                Err(refused) => return (count, refused),
            }
        }
    }

    /// Makes places of cells predictable: those of a key of this test's, not of chance.
    fn with_a_key_of_its_own(self) -> Self {
        self.limiter.stranger(None);
        let path = self.limiter.context.site.path(FILE);
        let mut content = std::fs::read(&path).unwrap();
        content[8..].fill(0);
        std::fs::write(&path, content).unwrap();
        self
    }

    fn pass(&self, seconds: i64) {
        use pve_schema::Clock as _;
        self.clock.set(self.clock.now() + seconds);
    }
}

const HOME: &str = "192.0.2.1";
const OFFICE: &str = "2001:db8:1:2::3";

#[test]
fn failures_of_a_user_from_an_address_keep_out_nobody_else() {
    let lab = Lab::new();
    assert_eq!(lab.exhaust("alice@pve", HOME), (3, Refused::Pair));
    assert_eq!(lab.get_in("alice@pve", HOME), Err(Refused::Pair), "right or not");
    lab.get_in("bob@pve", HOME).unwrap();
    lab.get_in("alice@pve", OFFICE).unwrap();
    lab.pass(59);
    assert!(lab.fail("alice@pve", HOME).is_err());
    lab.pass(1);
    lab.fail("alice@pve", HOME).unwrap();
    assert!(lab.fail("alice@pve", HOME).is_err(), "one a minute");
    lab.pass(3600);
    assert_eq!(lab.exhaust("alice@pve", HOME).0, 3);
}

#[test]
fn what_is_right_never_counts() {
    let lab = Lab::new();
    for _ in 0..100 {
        lab.get_in("alice@pve", HOME).unwrap();
        lab.guess("alice@pve", HOME).unwrap().is_right();
    }
    assert_eq!(lab.exhaust("alice@pve", HOME), (3, Refused::Pair));
}

#[test]
fn an_address_is_one_however_it_is_written_and_a_network_of_ipv6_is_one() {
    let lab = Lab::new();
    lab.fail("alice@pve", "192.0.2.1").unwrap();
    lab.fail("alice@pve", "::ffff:192.0.2.1").unwrap();
    assert_eq!(lab.exhaust("alice@pve", HOME).0, 1);
    lab.fail("alice@pve", "2001:db8:1:2::3").unwrap();
    lab.fail("alice@pve", "2001:db8:1:2:ffff::").unwrap();
    assert_eq!(lab.exhaust("alice@pve", OFFICE).0, 1);
    lab.fail("alice@pve", "2001:db8:1:3::3").unwrap();
    // Who has no address shares a place with others who have none.
    assert_eq!(lab.exhaust("alice@pve", "none"), (3, Refused::Pair));
}

#[test]
fn an_address_that_tries_many_users_is_refused_but_not_its_neighbours() {
    let lab = Lab::new();
    lab.get_in("neighbour@pve", HOME).unwrap();
    let tried = (0..)
        .take_while(|n| lab.fail(&format!("user{n}@pve"), HOME).is_ok())
        .count();
    assert_eq!(tried, 18);
    assert_eq!(lab.get_in("stranger@pve", HOME), Err(Refused::Address));
    lab.get_in("neighbour@pve", HOME).unwrap();
    assert_eq!(
        lab.exhaust("neighbour@pve", HOME),
        (3, Refused::Pair),
        "for its own failures"
    );
    lab.get_in("stranger@pve", OFFICE).unwrap();
    lab.pass(10);
    lab.get_in("stranger@pve", HOME).unwrap();
}

#[test]
fn all_of_loopback_is_one_address_and_only_localhost_is_the_machine_itself() {
    let lab = Lab::new();
    for client in ["127.0.0.1", "127.77.0.1", "::1"] {
        lab.fail("alice@pve", client).unwrap();
    }
    for client in ["127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1"] {
        assert_eq!(lab.fail("alice@pve", client), Err(Refused::Pair), "{client}");
    }
    assert!((0..=30).any(|n| lab.fail("root@pam", &format!("10.0.0.{n}")).is_err()));
    assert_eq!(lab.get_in("root@pam", "127.77.0.1"), Err(Refused::User));
    lab.fail("root@pam", "::1").unwrap();
    lab.get_in("root@pam", "127.0.0.1").unwrap();
}

#[test]
fn a_clock_that_is_set_back_keeps_out_nobody_who_gets_in() {
    let lab = Lab::new();
    lab.get_in("alice@pve", HOME).unwrap();
    lab.fail("alice@pve", HOME).unwrap();
    std::mem::forget(lab.guess("alice@pve", HOME).unwrap());
    for _ in 0..100 {
        lab.limiter.stranger(OFFICE.parse().ok());
    }
    lab.pass(-86400);
    lab.get_in("alice@pve", HOME).unwrap();
    lab.get_in("alice@pve", OFFICE).unwrap();
    // Nor are there fewer places than there were, or more.
    lab.pass(121);
    assert_eq!(lab.exhaust("alice@pve", HOME), (3, Refused::Pair));
}

#[test]
fn a_file_that_others_keep_busy_does_not_open_the_limits() {
    let lab = Lab::new();
    lab.fail("alice@pve", HOME).unwrap();
    let (locked, is_locked) = std::sync::mpsc::channel();
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let path = lab.limiter.context.site.path(LOCK);
    let other = std::thread::spawn(move || {
        let _lock = FileLock::acquire(&path, Mode::Exclusive, LOCK_TIMEOUT, &mut |_| {}).unwrap();
        locked.send(()).unwrap();
        let _ = gone.recv();
    });
    is_locked.recv().unwrap();
    assert_eq!(lab.get_in("alice@pve", HOME), Err(Refused::Crowd));
    drop(go);
    other.join().unwrap();
    assert_eq!(lab.exhaust("alice@pve", HOME), (2, Refused::Pair));
}

/// Its place comes back with time, though others come all the while.
#[test]
fn a_guess_whose_process_was_killed_is_not_waited_for_as_long_as_others_come() {
    let lab = Lab::new();
    std::mem::forget(lab.guess("alice@pve", HOME).unwrap());
    for _ in 0..4 {
        lab.pass(40);
        lab.get_in("alice@pve", HOME).unwrap();
    }
    assert_eq!(lab.exhaust("alice@pve", HOME), (3, Refused::Pair), "not a crowd");
}

#[test]
fn names_that_are_no_users_count_for_the_address() {
    let lab = Lab::new();
    for _ in 0..100 {
        lab.limiter.stranger(HOME.parse().ok());
    }
    assert_eq!(lab.fail("alice@pve", HOME), Err(Refused::Address));
    lab.get_in("alice@pve", OFFICE).unwrap();
}

#[test]
fn who_is_attacked_from_everywhere_gets_in_from_home_and_from_the_machine_itself() {
    let lab = Lab::new();
    lab.get_in("root@pam", HOME).unwrap();
    let tried = (0..).take_while(|n| lab.fail("root@pam", &format!("10.0.{}.{}", n / 200, n % 200)).is_ok());
    assert_eq!(tried.count(), 30);
    assert_eq!(lab.get_in("root@pam", OFFICE), Err(Refused::User));
    lab.get_in("root@pam", HOME).unwrap();
    lab.get_in("root@pam", "127.0.0.1").unwrap();
    lab.get_in("root@pam", "::1").unwrap();
    lab.get_in("alice@pve", OFFICE).unwrap();
    // A place comes back every half minute, and then it is known, too.
    lab.pass(30);
    lab.get_in("root@pam", OFFICE).unwrap();
    lab.fail("root@pam", "10.1.0.1").unwrap();
    assert!(lab.fail("root@pam", "10.1.0.2").is_err());
    lab.get_in("root@pam", OFFICE).unwrap();
}

#[test]
fn many_at_once_get_in_if_they_are_right_and_three_guesses_if_not() {
    let lab = Lab::new();
    let at_once = |work: &(dyn Fn() -> bool + Sync)| {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..50).map(|_| scope.spawn(work)).collect();
            threads
                .into_iter()
                .filter_map(|thread| thread.join().ok())
                .filter(|done| *done)
                .count()
        })
    };
    assert_eq!(at_once(&|| lab.get_in("alice@pve", HOME).is_ok()), 50);
    assert_eq!(at_once(&|| lab.fail("alice@pve", HOME).is_ok()), 3);
    assert_eq!(at_once(&|| lab.get_in("bob@pve", HOME).is_ok()), 50);
}

#[test]
fn a_guess_whose_process_was_killed_is_a_wrong_one() {
    let lab = Lab::new();
    for _ in 0..3 {
        std::mem::forget(lab.guess("alice@pve", HOME).unwrap());
    }
    lab.pass(121);
    // Two places came back, and nothing is waited for any longer.
    assert_eq!(lab.exhaust("alice@pve", HOME), (2, Refused::Pair));
}

#[test]
fn the_file_is_roots_and_does_not_grow() {
    let lab = Lab::new();
    let path = lab.limiter.context.site.path(FILE);
    lab.fail("alice@pve", HOME).unwrap();
    let about = || std::fs::metadata(&path).unwrap();
    assert_eq!(about().permissions().mode() & 0o777, 0o600);
    let directory = std::fs::metadata(path.parent().unwrap()).unwrap();
    assert_eq!(directory.permissions().mode() & 0o777, 0o700);
    let size = about().len();
    assert!(size < 512 * 1024, "{size}");
    for n in 0..5000_u32 {
        lab.limiter.stranger(Some(IpAddr::from(n.to_be_bytes())));
    }
    assert_eq!(about().len(), size);
    let content = std::fs::read(&path).unwrap();
    assert!(!content.windows(5).any(|bytes| bytes == b"alice"), "no names are in it");
}

/// Each region gets more than it has cells. Who knows a password could push out those few whose users share its own
/// user's cells, one in 512; with this key these do not.
#[test]
fn a_flood_of_users_and_addresses_does_not_wipe_out_what_counts() {
    let lab = Lab::new().with_a_key_of_its_own();
    lab.get_in("root@pam", HOME).unwrap();
    assert_eq!(lab.exhaust("alice@pve", HOME), (3, Refused::Pair));
    let address = |n: u32| IpAddr::from((n | 1 << 31).to_be_bytes()).to_string();
    let (mut failed, mut got_in) = (0, 0);
    for n in 0..4500_u32 {
        lab.limiter.stranger(Some(IpAddr::from(n.to_be_bytes())));
        failed += u32::from(lab.fail(&format!("user{}@pve", n % 300), &address(n)).is_ok());
        failed += u32::from(lab.fail("root@pam", &address(n)).is_ok());
        got_in += u32::from(lab.get_in("insider@pve", &address(n % 500)).is_ok());
    }
    // Of pairs there are 4096 cells: a user here fails fifteen times of thirty that it may.
    assert!(failed > 4500 && got_in == 4500, "{failed} {got_in}");
    assert_eq!(lab.get_in("root@pam", OFFICE), Err(Refused::User));
    lab.get_in("root@pam", HOME).unwrap();
    assert_eq!(lab.fail("alice@pve", HOME), Err(Refused::Pair));
}

#[test]
fn a_file_that_is_none_is_begun_anew_and_none_at_all_keeps_nobody_out() {
    let lab = Lab::new();
    let path = lab.limiter.context.site.path(FILE);
    lab.exhaust("alice@pve", HOME);
    std::fs::write(&path, "something else").unwrap();
    assert_eq!(lab.exhaust("alice@pve", HOME).0, 3);
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    for _ in 0..10 {
        lab.fail("alice@pve", HOME).unwrap();
    }
}

#[test]
fn none_is_none() {
    let lab = Lab::with(Limits::NONE);
    for _ in 0..100 {
        lab.fail("alice@pve", HOME).unwrap();
    }
    assert!(!lab.limiter.context.site.path(FILE).exists());
}
