use super::*;

fn read(text: &str) -> Result<Settings, Error> {
    Settings::read(Some(text), "/studio/job", Scheduling::default())
}

#[test]
fn a_bundle_without_settings_sees_its_own_directory() {
    let settings = Settings::read(None, "/studio/job", Scheduling::default()).unwrap();
    let [central] = settings.central.as_slice() else {
        panic!("one central path");
    };
    assert_eq!(
        (central.host.as_str(), central.write),
        ("/studio/job", true)
    );
    assert_eq!(central.path.as_str(), DEFAULT_CENTRAL);
    assert_eq!(
        (settings.priority, settings.retries),
        (DEFAULT_PRIORITY, None)
    );
    assert_eq!(settings.place, Where::Auto);
}

#[test]
fn what_the_file_says_wins_over_what_deadline_says() {
    let deadline = Scheduling {
        priority: Some(3),
        retries: Some(4),
        failures: Some(5),
        held: true,
    };
    let read = |text| Settings::read(Some(text), "/d", deadline).unwrap();
    assert_eq!((read("").priority, read("").retries), (3, Some(4)));
    assert_eq!(read("priority = 9").priority, 9);
    assert_eq!((read("").failures, read("").held), (Some(5), true));
    assert!(!read("paused = false").held);
}

#[test]
fn a_moment_says_its_offset() {
    let moment = |text: &str| read(&format!("not_before = {text}")).map(|it| it.not_before);
    for (text, seconds) in [
        ("1970-01-01T00:00:00Z", 0),
        ("2027-01-31T20:00:00Z", 1_801_425_600),
        ("2024-02-29T23:59:59-01:30", 1_709_256_599),
        ("2000-03-01T00:00:00+02:00", 951_861_600),
    ] {
        assert_eq!(moment(text).unwrap(), Some(seconds), "{text}");
    }
    for text in ["2027-01-31T20:00:00", "2027-01-31", "1969-12-31T00:00:00Z"] {
        assert!(moment(text).is_err(), "{text}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn each_refusal_names_the_place() {
    for (text, message) in [
        (
            "priority = 101",
            "safelight-job.toml: priority: it is more than 100",
        ),
        (
            "retries = 101",
            "safelight-job.toml: retries: they are more than 100",
        ),
        (
            "timeout = 0",
            "safelight-job.toml: timeout: no task takes 0 seconds",
        ),
        (
            "where = 'Site B'",
            "safelight-job.toml: where: it is neither auto nor local nor a site",
        ),
        (
            "policy = '../x'",
            "safelight-job.toml: policy: it is no policy's name",
        ),
        (
            "notify = { url = 'file:///etc' }",
            "safelight-job.toml: notify.url: it begins with neither https:// nor http://",
        ),
        (
            "central = [{ host = '/', path = '/mnt/a' }]",
            "safelight-job.toml: central[0].host: it is no directory of this host below its root",
        ),
        (
            "central = [{ host = 'Z:\\show', path = '/mnt/a' }]",
            "safelight-job.toml: central[0].host: it is no directory of this host below its root",
        ),
        (
            "central = [{ host = '.', path = '/mnt/{{a}}' }]",
            "safelight-job.toml: central[0]: '{{' and '}}' stand for values of parameters",
        ),
        (
            "central = [{ host = '.', path = '/mnt/a', also = ['show'] }]",
            "safelight-job.toml: central[0].also: each must be absolute, and there may be 256",
        ),
        (
            "central = [{ host = 'a', path = '/mnt/a' }, { host = 'b', path = '/mnt/a/b' }]",
            "safelight-job.toml: central[1].path: it overlaps another central path",
        ),
        (
            "central = [{ host = 'a', path = '/mnt/a' }, { host = 'a', path = '/mnt/b' }]",
            "safelight-job.toml: central[1]: another central path is spelled like this one, or a \
             spelling is not an absolute path",
        ),
        (
            "central = [{ host = '.', path = '/usr/x' }]",
            "safelight-job.toml: central[0]",
        ),
        (
            "central = [{ host = '.', path = '/mnt/a', rw = true }]",
            "cannot read safelight-job.toml",
        ),
        (
            "capabilities = { 'amount.license.x' = 'attr.x' }",
            "safelight-job.toml: capabilities.amount.license.x: both are names of an amount (amount.…) \
             or of an attribute (attr.…)",
        ),
        ("prority = 3", "cannot read safelight-job.toml"),
        ("priority = -1", "cannot read safelight-job.toml"),
    ] {
        assert_eq!(read(text).unwrap_err().to_string(), message, "{text}");
    }
}

#[test]
fn outputs_belong_to_a_step() {
    let expected = |text, steps: &[&str]| read(text).unwrap().expected(steps);
    let one = expected("expect = ['a']", &["A"]).unwrap();
    assert_eq!(one, [["a".to_owned()]]);
    let two = expected("expect = { B = ['b'] }", &["A", "B"]).unwrap();
    assert_eq!(two, [vec![], vec!["b".to_owned()]]);
    assert_eq!(
        expected("", &["A", "B"]).unwrap(),
        [vec![], Vec::<String>::new()]
    );
    for (text, message) in [
        (
            "expect = ['a']",
            "safelight-job.toml: expect: the job has several steps: write expect = { STEP = [...] }",
        ),
        (
            "expect = { C = [] }",
            "safelight-job.toml: expect.C: the job has no such step",
        ),
    ] {
        assert_eq!(
            expected(text, &["A", "B"]).unwrap_err().to_string(),
            message
        );
    }
}
