//! The pickle machine: instructions of protocols 2 to 5 over a stack of plain values.
//! It makes descriptions of tensors and nothing else; which names exist and what they do is in `globals`.

use std::collections::HashMap;

use super::error::{PickleError, PickleProblem};
use super::globals;
use super::value::{Heap, Object, Value};

/// Bytes of a pickle: one of a hundred thousand tensors has about twenty million.
const MAX_PICKLE: usize = 32 << 20;
/// Values on the stack at once; Python writes dicts in batches of a thousand.
const MAX_STACK: usize = 1 << 20;
/// Values that can be referred to again.
const MAX_MEMO: usize = 1 << 22;
const NEWEST_PROTOCOL: u8 = 5;

/// Runs the pickle and returns its result with the objects it refers to.
pub(super) fn unpickle(pickle: &[u8]) -> Result<(Heap<'_>, Value), PickleError> {
    if pickle.len() > MAX_PICKLE {
        let problem = PickleProblem::Limit {
            what: "its size in bytes is",
            limit: MAX_PICKLE,
        };
        return Err(PickleError { at: 0, problem });
    }
    let mut machine = Machine {
        heap: Heap::new(pickle),
        at: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    loop {
        let at = machine.at;
        match machine.step() {
            Ok(None) => {}
            Ok(Some(result)) => return Ok((machine.heap, result)),
            Err(problem) => return Err(PickleError { at, problem }),
        }
    }
}

struct Machine<'a> {
    heap: Heap<'a>,
    at: usize,
    stack: Vec<Value>,
    /// Heights of the stack at the open marks.
    marks: Vec<usize>,
    memo: HashMap<u64, Value>,
}

type Step = Result<(), PickleProblem>;

impl Machine<'_> {
    /// One instruction; the result when it is the last.
    fn step(&mut self) -> Result<Option<Value>, PickleProblem> {
        let opcode = self.byte()?;
        match opcode {
            b'.' => return self.pop().map(Some),
            0x80 => {
                let protocol = self.byte()?;
                if protocol > NEWEST_PROTOCOL {
                    return Err(PickleProblem::Protocol(protocol));
                }
            }
            // A frame only announces how much to read ahead.
            0x95 => drop(self.take(8)?),
            b'(' => self.mark()?,
            b'0' => self.discard()?,
            b'1' => drop(self.pop_to_mark()?),
            b'2' => self.push(self.top()?)?,
            b'p' | b'q' | b'r' | 0x94 | b'g' | b'h' | b'j' => self.memory(opcode)?,
            b'K' | b'M' | b'J' | 0x8a | 0x8b => self.number(opcode)?,
            b'G' | b'N' | 0x88 | 0x89 => {
                self.take(if opcode == b'G' { 8 } else { 0 })?;
                self.push(Value::Plain)?;
            }
            b'X' | b'U' | b'T' | 0x8c | 0x8d => self.text(opcode)?,
            b'C' | b'B' | 0x8e | 0x96 => {
                let length = self.length(opcode)?;
                self.take(length)?;
                self.push(Value::Plain)?;
            }
            b']' | b'l' | b'a' | b'e' | 0x8f | 0x90 | 0x91 => self.list(opcode)?,
            b')' | b't' | 0x85..=0x87 => self.tuple(opcode)?,
            b'}' | b'd' | b's' | b'u' => self.dict(opcode)?,
            b'c' | 0x93 | b'R' | 0x81 | b'Q' | b'b' => self.object(opcode)?,
            other => return Err(PickleProblem::Opcode(other)),
        }
        Ok(None)
    }

    /// Puts the top of the stack into the memo, or a value of the memo onto the stack.
    fn memory(&mut self, opcode: u8) -> Step {
        let key = match opcode {
            b'q' | b'h' => u64::from(self.byte()?),
            b'r' | b'j' => self.unsigned(4)?,
            b'p' | b'g' => self
                .line()?
                .parse()
                .map_err(|_| PickleProblem::Opcode(opcode))?,
            _ => self.memo.len() as u64,
        };
        if matches!(opcode, b'g' | b'h' | b'j') {
            let value = self.memo.get(&key).copied().ok_or(PickleProblem::Missing)?;
            return self.push(value);
        }
        let value = self.top()?;
        self.memo.insert(key, value);
        within(self.memo.len(), "the number of values kept is", MAX_MEMO)
    }

    fn number(&mut self, opcode: u8) -> Step {
        let value = match opcode {
            b'K' => Value::Int(i64::from(self.byte()?)),
            b'M' => Value::Int(self.unsigned(2)? as i64),
            b'J' => Value::Int(i64::from(self.unsigned(4)? as u32 as i32)),
            _ => {
                let length = self.unsigned(if opcode == 0x8a { 1 } else { 4 })?;
                long(self.take(size(length)?)?)
            }
        };
        self.push(value)
    }

    fn text(&mut self, opcode: u8) -> Step {
        let length = self.length(opcode)?;
        let start = self.at as u32;
        let valid = std::str::from_utf8(self.take(length)?).is_ok();
        match (valid, opcode) {
            (true, _) => self.push(Value::Text {
                start,
                len: length as u32,
            }),
            // Strings of Python 2 are bytes that need not be text.
            (false, b'U' | b'T') => self.push(Value::Plain),
            (false, _) => Err(PickleProblem::Text),
        }
    }

    /// Lists and sets keep nothing: no tensor of a state dict is in one.
    fn list(&mut self, opcode: u8) -> Step {
        match opcode {
            b']' | 0x8f => return self.push(Value::List),
            b'l' | 0x91 => {
                self.pop_to_mark()?;
                return self.push(Value::List);
            }
            b'a' => drop(self.pop()?),
            _ => drop(self.pop_to_mark()?),
        }
        match self.top()? {
            Value::List => Ok(()),
            other => Err(self.heap.kind("a list", other)),
        }
    }

    fn tuple(&mut self, opcode: u8) -> Step {
        let members = match opcode {
            b')' => Vec::new(),
            b't' => self.pop_to_mark()?,
            _ => {
                let count = usize::from(opcode - 0x84);
                let from = self
                    .stack
                    .len()
                    .checked_sub(count)
                    .filter(|&from| from >= self.floor());
                self.stack.split_off(from.ok_or(PickleProblem::Missing)?)
            }
        };
        let tuple = self.heap.add(Object::Tuple(members.into_boxed_slice()))?;
        self.push(tuple)
    }

    fn dict(&mut self, opcode: u8) -> Step {
        let items = match opcode {
            b'}' => Vec::new(),
            b's' => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.pop_to_mark()?,
        };
        if !items.len().is_multiple_of(2) {
            return Err(PickleProblem::Missing);
        }
        let pairs = items.chunks_exact(2).map(|pair| (pair[0], pair[1]));
        if matches!(opcode, b'}' | b'd') {
            let dict = self.heap.add(Object::Dict(pairs.collect()))?;
            return self.push(dict);
        }
        let target = self.top()?;
        self.heap.dict_mut(target)?.extend(pairs);
        Ok(())
    }

    fn object(&mut self, opcode: u8) -> Step {
        let result = match opcode {
            b'c' => {
                let module = self.line()?;
                let name = self.line()?;
                Value::Global(globals::find(module, name)?)
            }
            0x93 => {
                let name = self.pop()?;
                let module = self.pop()?;
                Value::Global(globals::find(
                    self.heap.text(module)?,
                    self.heap.text(name)?,
                )?)
            }
            b'Q' => {
                let id = self.pop()?;
                globals::persistent(&mut self.heap, id)?
            }
            // The state of an object, such as the `_metadata` of a state dict, has no tensors of its own.
            b'b' => {
                self.pop()?;
                self.pop()?
            }
            _ => {
                let arguments = self.pop()?;
                let callee = self.pop()?;
                globals::call(&mut self.heap, callee, arguments)?
            }
        };
        self.push(result)
    }

    fn push(&mut self, value: Value) -> Step {
        self.stack.push(value);
        within(self.stack.len(), "the height of the stack is", MAX_STACK)
    }

    fn mark(&mut self) -> Step {
        self.marks.push(self.stack.len());
        within(self.marks.len(), "the number of open marks is", MAX_STACK)
    }

    fn top(&self) -> Result<Value, PickleProblem> {
        self.stack[self.floor()..]
            .last()
            .copied()
            .ok_or(PickleProblem::Missing)
    }

    fn pop(&mut self) -> Result<Value, PickleProblem> {
        let value = self.top()?;
        self.stack.pop();
        Ok(value)
    }

    /// Removes one value, or the mark when it is on top.
    fn discard(&mut self) -> Step {
        if self.stack.len() == self.floor() {
            return self.marks.pop().map(drop).ok_or(PickleProblem::Missing);
        }
        self.pop().map(drop)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value>, PickleProblem> {
        let mark = self.marks.pop().ok_or(PickleProblem::Missing)?;
        Ok(self.stack.split_off(mark))
    }

    /// Height below which the values belong to the instructions before the last mark.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }
}

/// Reading instructions.
impl<'a> Machine<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], PickleProblem> {
        let taken = self.heap.pickle[self.at..]
            .get(..count)
            .ok_or(PickleProblem::Ends)?;
        self.at += count;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, PickleProblem> {
        self.take(1).map(|bytes| bytes[0])
    }

    /// A little-endian number of up to eight bytes.
    fn unsigned(&mut self, count: usize) -> Result<u64, PickleProblem> {
        let bytes = self.take(count)?;
        Ok(bytes
            .iter()
            .rev()
            .fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    /// The length that begins an instruction with text or bytes.
    fn length(&mut self, opcode: u8) -> Result<usize, PickleProblem> {
        let width = match opcode {
            b'U' | b'C' | 0x8c => 1,
            b'X' | b'T' | b'B' => 4,
            _ => 8,
        };
        size(self.unsigned(width)?)
    }

    /// Text up to the end of the line, of the instructions that are older than binary pickles.
    fn line(&mut self) -> Result<&'a str, PickleProblem> {
        let rest = &self.heap.pickle[self.at..];
        let length = rest
            .iter()
            .position(|&byte| byte == b'\n')
            .ok_or(PickleProblem::Ends)?;
        self.at += length + 1;
        std::str::from_utf8(&rest[..length]).map_err(|_| PickleProblem::Text)
    }
}

/// A signed little-endian number; larger than 64 bits it is a plain value.
fn long(bytes: &[u8]) -> Value {
    if bytes.len() > size_of::<i64>() {
        return Value::Plain;
    }
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut wide = [if negative { 0xff } else { 0 }; size_of::<i64>()];
    wide[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(wide))
}

fn size(length: u64) -> Result<usize, PickleProblem> {
    usize::try_from(length).map_err(|_| PickleProblem::Ends)
}

fn within(count: usize, what: &'static str, limit: usize) -> Step {
    if count > limit {
        Err(PickleProblem::Limit { what, limit })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn problem(pickle: &[u8]) -> PickleProblem {
        unpickle(pickle).unwrap_err().problem
    }

    #[test]
    fn numbers_of_all_widths_keep_their_sign() {
        let numbers: [(&[u8], i64); 8] = [
            (b"K\xff.", 255),
            (b"M\xff\xff.", 65535),
            (b"J\xff\xff\xff\xff.", -1),
            (b"\x8a\x00.", 0),
            (b"\x8a\x01\x80.", -128),
            (b"\x8a\x02\x80\x00.", 128),
            (b"\x8a\x08\0\0\0\0\0\0\0\x80.", i64::MIN),
            (b"\x8b\x01\0\0\0\x7f.", 127),
        ];
        for (pickle, wanted) in numbers {
            let (_, result) = unpickle(pickle).unwrap();
            assert!(
                matches!(result, Value::Int(got) if got == wanted),
                "{pickle:?} gave {result:?}"
            );
        }
        assert!(matches!(
            unpickle(b"\x8a\x09\0\0\0\0\0\0\0\0\x01.").unwrap().1,
            Value::Plain
        ));
    }

    #[test]
    fn text_forms_of_the_memo_are_read() {
        let (heap, result) = unpickle(b"X\x01\0\0\0ap12\n0g12\n.").unwrap();
        assert_eq!(heap.text(result).unwrap(), "a");
        assert_eq!(problem(b"g12\n."), PickleProblem::Missing);
    }

    #[test]
    fn values_below_a_mark_are_out_of_reach() {
        // POP takes the mark when nothing is above it.
        assert!(unpickle(b"N(0.").is_ok());
        assert_eq!(problem(b"N(."), PickleProblem::Missing);
        assert_eq!(problem(b"NN(N\x86."), PickleProblem::Missing);
        assert_eq!(problem(b"t."), PickleProblem::Missing);
        assert_eq!(problem(b"}(Nu."), PickleProblem::Missing);
    }

    #[test]
    fn instructions_that_checkpoints_never_have_are_refused() {
        // INST, OBJ, EXT1, NEWOBJ_EX, text forms of protocol 0, an unknown one.
        for opcode in [b'i', b'o', 0x82, 0x92, b'S', b'V', b'I', b'P', 0xff] {
            assert_eq!(
                problem(&[opcode, b'N', b'.']),
                PickleProblem::Opcode(opcode)
            );
        }
        assert_eq!(problem(b"\x80\x06N."), PickleProblem::Protocol(6));
        assert_eq!(
            problem(b"cos\nsystem\n."),
            PickleProblem::Global("os.system".to_owned())
        );
        assert!(matches!(
            problem(b"K\x01)R."),
            PickleProblem::Kind {
                found: "a number",
                ..
            }
        ));
        assert!(matches!(
            problem(b"ccollections\nOrderedDict\nK\x01\x85R."),
            PickleProblem::Kind { .. }
        ));
    }

    #[test]
    fn hostile_sizes_end_with_a_limit_not_with_memory() {
        assert_eq!(
            problem(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff."),
            PickleProblem::Ends
        );
        let limited = |pickle: Vec<u8>| matches!(problem(&pickle), PickleProblem::Limit { .. });
        assert!(limited(b"N".repeat(MAX_STACK + 2)));
        assert!(limited(b"(".repeat(MAX_STACK + 2)));
        assert!(limited(
            [b"N".as_slice(), &b"\x94".repeat(MAX_MEMO + 2)].concat()
        ));
        assert!(limited(b"}0".repeat(5 << 20)));
        assert!(limited(vec![b'N'; MAX_PICKLE + 1]));
    }

    #[test]
    fn deep_nesting_and_cycles_are_harmless() {
        let deep = [b")".as_slice(), &b"\x85".repeat(1 << 20), b"."].concat();
        assert!(unpickle(&deep).is_ok());
        // A dict that holds itself.
        let (heap, result) = unpickle(b"}\x94K\x01h\x00s.").unwrap();
        assert!(super::super::state_dict::find(&heap, result).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(pickle: Vec<u8>) {
            let _ = unpickle(&pickle);
        }

        #[test]
        fn any_mixture_of_instructions_is_read_or_refused(
            parts in prop::collection::vec(prop::sample::select(vec![
                &b"("[..], b"t", b"\x85", b"\x86", b"}", b"]", b"d", b"s", b"u", b"a", b"e", b"0", b"1", b"2", b"R", b"b", b"Q",
                b"K\x01", b"X\x07\0\0\0storage", b"q\x00", b"h\x00", b"\x94", b"ccollections\nOrderedDict\n", b")",
                b"ctorch\nFloatStorage\n", b"ctorch._utils\n_rebuild_tensor_v2\n",
            ]), 0..64)
        ) {
            let pickle = [parts.concat().as_slice(), b"."].concat();
            if let Ok((heap, result)) = unpickle(&pickle) {
                let _ = super::super::state_dict::find(&heap, result);
            }
        }
    }
}
