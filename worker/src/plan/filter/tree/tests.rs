use std::collections::BTreeMap;

use proptest::prelude::*;
use safelight_policies::{Catalogue, Request, id::PolicyName};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::*;
use crate::plan::filter::{arguments, filters, number};

/// The same filter by the compiler that Firecracker uses, as a list.
fn list(
    calls: &BTreeMap<u32, Vec<Conditions>>,
    listed: Answer,
    otherwise: Answer,
) -> Vec<Instruction> {
    let action = |answer| match answer {
        Answer::Allow => SeccompAction::Allow,
        Answer::Errno(number) => SeccompAction::Errno(number.unsigned_abs()),
        Answer::KillProcess => SeccompAction::KillProcess,
        Answer::Ask => panic!("a list cannot ask"),
    };
    let condition = |it: &Condition| {
        let compare = match it.compare {
            Compare::Equal => SeccompCmpOp::Eq,
            Compare::NotEqual => SeccompCmpOp::Ne,
            Compare::Masked(mask) => SeccompCmpOp::MaskedEq(mask.into()),
        };
        let value = it.value.into();
        SeccompCondition::new(it.argument, SeccompCmpArgLen::Dword, compare, value).unwrap()
    };
    let rule = |it: &Conditions| SeccompRule::new(it.iter().map(condition).collect()).unwrap();
    let rules = calls
        .iter()
        .map(|(number, rules)| (i64::from(*number), rules.iter().map(rule).collect()))
        .collect();
    let filter = SeccompFilter::new(rules, action(otherwise), action(listed), TargetArch::x86_64);
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    let instruction = |it: seccompiler::sock_filter| Instruction {
        code: it.code,
        jt: it.jt,
        jf: it.jf,
        k: it.k,
    };
    program.into_iter().map(instruction).collect()
}

/// A call as a filter sees it.
#[derive(Debug, Clone, Copy)]
struct Call {
    number: u32,
    architecture: u32,
    arguments: [u64; 6],
}

impl Call {
    fn new(number: u32, arguments: [u64; 6]) -> Self {
        Self {
            number,
            architecture: ARCHITECTURE,
            arguments,
        }
    }

    fn at(&self, at: u32) -> u32 {
        match at {
            0 => self.number,
            4 => self.architecture,
            at => {
                let argument = self.arguments[usize::try_from((at - 16) / 8).unwrap()];
                let half = if at % 8 == 0 {
                    argument
                } else {
                    argument >> 32
                };
                u32::try_from(half & 0xffff_ffff).unwrap()
            }
        }
    }
}

/// Runs a filter as the kernel does; what it answers, after how many steps.
fn run(program: &[Instruction], call: &Call) -> (u32, usize) {
    let (mut at, mut value, mut steps) = (0, 0u32, 0);
    loop {
        let it = program[at];
        steps += 1;
        at += 1;
        let code = u32::from(it.code);
        let jump = |holds: bool| usize::from(if holds { it.jt } else { it.jf });
        match code {
            _ if code == BPF_LD | BPF_W | BPF_ABS => value = call.at(it.k),
            _ if code == BPF_ALU | BPF_AND | BPF_K => value &= it.k,
            _ if code == BPF_JMP | BPF_JA => at += usize::try_from(it.k).unwrap(),
            _ if code == BPF_JMP | BPF_JEQ | BPF_K => at += jump(value == it.k),
            _ if code == BPF_JMP | BPF_JGE | BPF_K => at += jump(value >= it.k),
            _ if code == BPF_RET | BPF_K => return (it.k, steps),
            other => panic!("{other:#x} is no instruction of ours"),
        }
    }
}

#[track_caller]
fn agree(calls: &BTreeMap<u32, Vec<Conditions>>, call: &Call) {
    let (listed, otherwise) = (Answer::Allow, Answer::Errno(libc::EPERM));
    let (tree, list) = (
        compile(calls, listed, otherwise),
        list(calls, listed, otherwise),
    );
    assert_eq!(run(&tree, call).0, run(&list, call).0, "{call:?} {calls:?}");
}

fn compare() -> impl Strategy<Value = Compare> {
    prop_oneof![
        Just(Compare::Equal),
        Just(Compare::NotEqual),
        prop_oneof![0u32..16, any::<u32>()].prop_map(Compare::Masked),
    ]
}

/// Small numbers mostly, so that what is asked for is often what comes.
fn word() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0u32..6, 1 => any::<u32>()]
}

fn condition() -> impl Strategy<Value = Condition> {
    (0u8..6, compare(), word()).prop_map(|(argument, compare, value)| Condition {
        argument,
        compare,
        // Bits that the mask takes away can never be equal, and one of the two compilers knows.
        value: match compare {
            Compare::Masked(mask) => value & mask,
            _ => value,
        },
    })
}

proptest! {
    #[test]
    fn a_tree_answers_as_the_list_does(
        calls in prop::collection::btree_map(
            0u32..300,
            prop::collection::vec(prop::collection::vec(condition(), 1..4), 0..4),
            1..120,
        ),
        number in prop_oneof![0u32..320, any::<u32>()],
        low in prop::array::uniform6(word()),
        high in any::<u32>(),
    ) {
        let arguments = low.map(|low| u64::from(low) | u64::from(high) << 32);
        agree(&calls, &Call::new(number, arguments));
        // And at a number that is listed.
        let listed = calls.keys().copied().find(|listed| *listed >= number % 300);
        if let Some(number) = listed.or(calls.keys().copied().next()) {
            agree(&calls, &Call::new(number, arguments));
        }
    }
}

#[test]
fn the_shipped_filter_answers_as_the_list_does_for_every_call() {
    let catalogue = Catalogue::shipped().unwrap();
    let policy = catalogue.resolve(&PolicyName::new("generic").unwrap());
    let grant = policy.unwrap().admit(&Request::default()).unwrap();
    let calls: BTreeMap<_, _> = grant
        .terms()
        .seccomp
        .allow
        .iter()
        .map(|name| (number(name).unwrap(), arguments(name)))
        .collect();
    let (listed, otherwise) = (Answer::Allow, Answer::Errno(libc::EPERM));
    let tree = compile(&calls, listed, otherwise);
    let list = list(&calls, listed, otherwise);
    let interesting = [
        0,
        1,
        2,
        10,
        17,
        262,
        0x5412,
        0x2000_0000,
        0x7e02_0000,
        0x5412 | 7 << 32,
        u64::MAX,
    ];
    let numbers = (0..1024).chain(0x4000_0000..0x4000_0400).chain([u32::MAX]);
    let (mut tree_steps, mut list_steps) = (0, 0);
    for number in numbers {
        for value in interesting {
            let call = Call::new(number, [value; 6]);
            let (by_tree, by_list) = (run(&tree, &call), run(&list, &call));
            assert_eq!(by_tree.0, by_list.0, "{call:?}");
            tree_steps += by_tree.1;
            list_steps += by_list.1;
        }
    }
    assert!(tree_steps * 10 < list_steps, "{tree_steps}, {list_steps}");
    // Another way to call is death, whatever is called.
    let foreign = Call {
        architecture: 0x4000_0003,
        ..Call::new(0, [0; 6])
    };
    assert_eq!(run(&tree, &foreign).0, libc::SECCOMP_RET_KILL_PROCESS);
}

#[test]
fn the_shipped_filters_fit_the_kernel() {
    const MOST: usize = 4096;
    let catalogue = Catalogue::shipped().unwrap();
    let policy = catalogue.resolve(&PolicyName::new("generic").unwrap());
    let grant = policy.unwrap().admit(&Request::default()).unwrap();
    let filters = filters(&grant.terms().seccomp).unwrap();
    for filter in [&filters.not_there, &filters.policy] {
        assert!(filter.len() < MOST / 8, "{}", filter.len());
    }
}
