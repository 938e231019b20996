//! A filter as a search tree over the numbers of system calls.
//!
//! A list with one test after the other is what compilers of filters write. The kernel runs a new filter once for every number that there is,
//! to remember those that it always allows, and a list of some hundreds costs a launch more than all its mounts; a tree costs next to
//! nothing, then and at each call whose arguments it looks at. Invariant: what it answers is what the list would, which the tests compare.

use std::collections::BTreeMap;

use libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W,
};

use super::Instruction;

/// x86-64 and little-endian (`AUDIT_ARCH_X86_64`, linux/audit.h). A program that calls in another way than this is killed.
const ARCHITECTURE: u32 = 0xc000_003e;

/// Where `struct seccomp_data` has what a filter looks at (linux/seccomp.h): each argument is 64 bits, its lower half first.
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
const ARGUMENTS_AT: u32 = 16;

/// What a filter answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Allow,
    Errno(i32),
    /// Whoever listens is asked.
    Ask,
    KillProcess,
}

impl Answer {
    fn value(self) -> u32 {
        match self {
            Self::Allow => libc::SECCOMP_RET_ALLOW,
            Self::Errno(number) => libc::SECCOMP_RET_ERRNO | (number.unsigned_abs() & 0xffff),
            Self::Ask => libc::SECCOMP_RET_USER_NOTIF,
            Self::KillProcess => libc::SECCOMP_RET_KILL_PROCESS,
        }
    }
}

/// How an argument is compared, in its lower 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compare {
    Equal,
    NotEqual,
    /// Equal in these bits.
    Masked(u32),
}

/// One condition on an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) argument: u8,
    pub(super) compare: Compare,
    pub(super) value: u32,
}

/// All of them must hold.
pub(super) type Conditions = Vec<Condition>;

/// What becomes of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Treatment<'a> {
    NotListed,
    Listed,
    /// Listed if any one of these holds.
    Asked(&'a [Conditions]),
}

/// Calls that are treated alike, from this number up to the next span's.
struct Span<'a> {
    first: u32,
    treatment: Treatment<'a>,
}

/// The filter that answers `listed` to the calls that are listed, if any one of their rules holds or there is none, and `otherwise` to the rest.
pub(super) fn compile(
    calls: &BTreeMap<u32, Vec<Conditions>>,
    listed: Answer,
    otherwise: Answer,
) -> Vec<Instruction> {
    let mut program = vec![
        load(ARCHITECTURE_AT),
        jump(BPF_JEQ, ARCHITECTURE, 1, 0),
        answer(Answer::KillProcess),
        load(NUMBER_AT),
    ];
    program.extend(search(&spans(calls), listed, otherwise));
    program
}

/// All numbers from 0 on, in spans.
fn spans(calls: &BTreeMap<u32, Vec<Conditions>>) -> Vec<Span<'_>> {
    let mut spans: Vec<Span<'_>> = Vec::new();
    let mut begin = |first, treatment| {
        if spans.last().is_none_or(|last| last.treatment != treatment) {
            spans.push(Span { first, treatment });
        }
    };
    let mut next = 0;
    for (number, rules) in calls {
        if *number > next {
            begin(next, Treatment::NotListed);
        }
        begin(
            *number,
            match rules.as_slice() {
                [] => Treatment::Listed,
                rules => Treatment::Asked(rules),
            },
        );
        next = number.saturating_add(1);
    }
    begin(next, Treatment::NotListed);
    spans
}

/// Finds the span of the number that was loaded.
fn search(spans: &[Span<'_>], listed: Answer, otherwise: Answer) -> Vec<Instruction> {
    match spans {
        [] => vec![answer(otherwise)],
        [only] => match only.treatment {
            Treatment::NotListed => vec![answer(otherwise)],
            Treatment::Listed => vec![answer(listed)],
            Treatment::Asked(rules) => check(rules, listed, otherwise),
        },
        more => {
            let (below, above) = more.split_at(more.len() / 2);
            let first = above.first().map_or(0, |span| span.first);
            let below = search(below, listed, otherwise);
            let mut found = match u8::try_from(below.len()) {
                Ok(length) => vec![jump(BPF_JGE, first, length, 0)],
                // Only the jump that asks nothing reaches that far.
                Err(_) => vec![jump(BPF_JGE, first, 0, 1), skip(below.len())],
            };
            found.extend(below);
            found.extend(search(above, listed, otherwise));
            found
        }
    }
}

/// Looks at a call's arguments.
fn check(rules: &[Conditions], listed: Answer, otherwise: Answer) -> Vec<Instruction> {
    let mut program = Vec::new();
    for rule in rules {
        let mut left: usize = rule.iter().map(length).sum();
        for condition in rule {
            left -= length(condition);
            // Past the rest of this rule, and past its answer. A rule has six conditions at most, so it is short.
            let past = u8::try_from(left + 1).unwrap_or(u8::MAX);
            program.push(load(ARGUMENTS_AT + 8 * u32::from(condition.argument)));
            let (holds, fails) = match condition.compare {
                Compare::NotEqual => (past, 0),
                Compare::Equal => (0, past),
                Compare::Masked(mask) => {
                    program.push(step(BPF_ALU | BPF_AND | BPF_K, mask, 0, 0));
                    (0, past)
                }
            };
            program.push(jump(BPF_JEQ, condition.value, holds, fails));
        }
        program.push(answer(listed));
    }
    program.push(answer(otherwise));
    program
}

/// How many instructions a condition takes.
fn length(condition: &Condition) -> usize {
    match condition.compare {
        Compare::Masked(_) => 3,
        Compare::Equal | Compare::NotEqual => 2,
    }
}

fn load(at: u32) -> Instruction {
    step(BPF_LD | BPF_W | BPF_ABS, at, 0, 0)
}

fn jump(on: u32, value: u32, holds: u8, fails: u8) -> Instruction {
    step(BPF_JMP | on | BPF_K, value, holds, fails)
}

fn skip(length: usize) -> Instruction {
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    step(BPF_JMP | BPF_JA, length, 0, 0)
}

pub(super) fn answer(answer: Answer) -> Instruction {
    step(BPF_RET | BPF_K, answer.value(), 0, 0)
}

/// True if an instruction gives this answer.
pub(super) fn is_answer(instruction: Instruction, this: Answer) -> bool {
    instruction == answer(this)
}

fn step(code: u32, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction {
        code: u16::try_from(code).unwrap_or_default(),
        jt,
        jf,
        k,
    }
}

#[cfg(test)]
mod tests;
