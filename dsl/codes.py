# SPDX-License-Identifier: Apache-2.0
"""Every diagnostic code with its title and what to do about it: the table behind `sohu explain`.

S1xx syntax and source files, S2xx names, types and shapes, S3xx sharding, S4xx config, S5xx checkpoint and files,
S6xx device. A code never changes its meaning.
"""

from __future__ import annotations

from dsl.code import Code
from dsl.collective_codes import COLLECTIVE_CODES
from dsl.message_codes import MESSAGE_CODES
from dsl.model_codes import MODEL_CODES

_SYNTAX: dict[str, Code] = {
    "S101": Code(
        "Unexpected word or sign",
        "The text does not follow the grammar here. Parsing stops at the first such place; the message names "
        "what could have stood there.",
    ),
    "S102": Code(
        "Character without meaning",
        "The language is written in ASCII words, numbers, double-quoted strings and a few signs. Statements need "
        "no separator, and a string ends on its own line.",
    ),
    "S103": Code(
        "Unmatched bracket",
        "Every `(`, `[` and `{` must be closed by its own counterpart, in order.",
    ),
    "S104": Code(
        "Number out of range",
        "Integers have at most 18 digits, and real numbers must be finite.",
    ),
    "S105": Code(
        "Nested too deep",
        "Brackets and expressions may nest up to a fixed depth, so that no text can exhaust the checker. Name "
        "intermediate results instead.",
    ),
    "S106": Code(
        "File too large",
        "A `.sohu` file is a page or two; 250,000 characters are the limit, and 24,576 names, numbers and signs.",
    ),
    "S107": Code(
        "Unknown version",
        "The first line names the version of the language, as `sohu 1.0`. This release reads the versions that "
        "the message lists.",
    ),
    "S108": Code("File cannot be read", "The file does not exist, is no file, or is not UTF-8."),
    "S109": Code(
        "Nothing of this name to explain",
        "`sohu explain` knows the codes that this release can print, the operations, the pages `language`, "
        "`own-architecture` and `new-architecture`, and the texts of the zoo.",
    ),
    "S110": Code(
        "Argument that is no text or no path",
        "Arguments are UTF-8 text. A path has at most 4,095 bytes, 255 a folder and 128 folders, no zero byte, and is "
        "no link in a circle.",
    ),
    "S111": Code(
        "Arguments that no command takes",
        "`sohu help` lists the commands, and `sohu help COMMAND` what one takes.",
    ),
    "S112": Code(
        "No name for a new text",
        "`sohu new NAME` writes NAME.sohu in the current folder and never over a file. A name is a letter, then "
        "letters, digits, `-` and `_`.",
    ),
    "S118": Code(
        "Outside of the folder",
        "`sohu mcp --root DIR` limits a session to a folder: every path lies in it after links are followed, and a hub "
        "id is refused unless `--allow-hub` was given. What files name, as a report its model, is held to the same.",
    ),
    "S119": Code(
        "Ended at a limit",
        "A command that an agent asked for took more time, memory or words than `sohu mcp` allows it; `--seconds` and "
        "`--memory` set how much.",
    ),
}

_NAMES: dict[str, Code] = {
    "S201": Code(
        "Name without meaning",
        "The name is bound nowhere before this place. Names bound inside of `repeat` end with it; names bound "
        "under a condition exist only where it holds.",
    ),
    "S202": Code(
        "Name bound twice",
        "Dimensions, scalars, weights, states, blocks, parts and outputs are bound once. Only tensors may be assigned "
        "again. A family has one section of each kind.",
    ),
    "S203": Code(
        "Shapes do not fit",
        "A numbered constraint of an operation does not hold; the number stands behind the message and in the "
        "language page. Sizes are compared as polynomials: in a family two names are never equal by accident, so "
        "a weight used in another's place is found even where their sizes happen to agree in one model.",
    ),
    "S204": Code(
        "Arguments do not fit",
        "An operation or block got too many arguments, too few, or one that it does not have. The message shows "
        "the call.",
    ),
    "S205": Code(
        "Wrong number of values",
        "An operation with several results is assigned to as many names, and a block returns as many values as "
        "it declares.",
    ),
    "S206": Code(
        "No such operation, block or part",
        "The name is in neither the operation table nor this file or the files it uses. A block cannot call "
        "itself.",
    ),
    "S207": Code(
        "Wrong kind of value",
        "A value known before the program runs is needed here, of another kind: a size, a number, a truth, a "
        "choice from a list, or a tensor.",
    ),
    "S208": Code(
        "Malformed weight source",
        "A weight comes from a tensor's name in quotes, or from a function of sources: stack(e < X, source), "
        "transpose(source), rows(source, start, stop).",
    ),
    "S209": Code(
        "Weight source gives another shape",
        "The function that makes this weight gives another shape than the declared type.",
    ),
    "S210": Code(
        "Unknown hole in a string",
        "A hole such as `{i}` names a loop variable or a static string in scope.",
    ),
    "S211": Code(
        "Unknown data type or kind",
        "A type begins with a dtype of the table or a name bound to one; a block's static parameter has a kind: "
        "dim, int, float, bool, string or dtype.",
    ),
    "S212": Code("Axis without size", "Every axis has a size of at least one."),
    "S213": Code(
        "Type differs from its declaration",
        "A block's argument or result, or an output, is of another type than declared: dtype, sizes and sharding "
        "must all be equal.",
    ),
    "S214": Code(
        "Wrong use of a state",
        "A state is written by `append`, whose result holds old and new entries; it is read in no other way, and "
        "only in the body that declares it.",
    ),
    "S215": Code(
        "Name never used",
        "A weight, input, value, parameter or config name that nothing uses cannot matter, so either a statement "
        "forgot it or it should go. A name that begins with `_` may stay unused.",
    ),
    "S216": Code("State never written", "A state that nothing writes stays empty for ever."),
    "S217": Code("State written twice", "A step writes each state once."),
    "S218": Code(
        "Too large or too complex",
        "The number of layers, files or terms of a size exceeds a fixed limit, so that checking always ends soon.",
    ),
    "S219": Code(
        "Not every combination was checked",
        "The family has more combinations of conditions than are explored; each single condition was taken both "
        "ways.",
    ),
    "S220": Code("No result", "A family has at least one output, and a block ends with `return`."),
    "S221": Code(
        "Dimension without a role",
        "The dims section names the sizes known only at run time, once each: batch, seq and context.",
    ),
    "S222": Code(
        "Statement in the wrong place",
        "Inputs, outputs and repeat stand in the family itself, not inside of repeat or a block; `return` ends a "
        "block.",
    ),
    "S223": Code(
        "Value from outside bound again",
        "Inside of `repeat` only carried names may take new values: what crosses the boundary of a layer is said "
        "once, after `carry`.",
    ),
    "S224": Code(
        "Carried but never changed", "A carried name must get a new value in every layer."
    ),
    "S225": Code(
        "Carried value changes its type",
        "What a layer hands on has the type of what it got, or the next layer could not be the same.",
    ),
    "S226": Code("One family is needed", "A port or a program to run holds exactly one family."),
    "S227": Code(
        "No file to use",
        "`use` names a `.sohu` file relative to this one or to the zoo, and nothing outside of either.",
    ),
    "S228": Code(
        "Architecture claimed twice",
        "Of one folder exactly one family may claim an architecture, and of all installed distributions one.",
    ),
    "S229": Code(
        "A folder of families cannot be used",
        "SOHU_PATH lists folders, and a distribution names a package of data folders as an entry point "
        "`sohu.families`: each with `families` and `blocks`, or with the texts themselves.",
    ),
    "S230": Code(
        "One tensor for every layer",
        "A weight inside of `repeat` is another tensor in each layer, so its name holds the layer's number, as `{i}`. "
        "A weight that layers share is declared once, before `repeat`, and used inside.",
    ),
}

_SHARDING: dict[str, Code] = {
    "S301": Code(
        "Partial sum used too early",
        "Contracting over a sharded axis leaves each chip with a part of the sum. Only a reducing collective, or "
        "an operation that is linear in it, may take such a value.",
    ),
    "S302": Code(
        "Sharding does not fit",
        "A numbered constraint of an operation on the sharding of its arguments does not hold.",
    ),
    "S303": Code("No such mesh axis", "The mesh section lists the axes that types may name."),
    "S304": Code("Mesh axis used twice", "One mesh axis can split only one axis of a tensor."),
    "S305": Code(
        "Mesh does not divide a size",
        "Every sharded size must be a multiple of the number of chips along its mesh axis.",
    ),
    "S306": Code(
        "Unusable mesh", "A mesh is written as tp=8,ep=4: an axis and its number of chips."
    ),
    "S307": Code(
        "Mesh axis splits two kinds of things",
        "Chips along an axis that splits the batch or the layers hold different sequences or layers. A tensor that "
        "is sharded on the same axis would be put together from parts that do not belong together.",
    ),
    "S308": Code(
        "Layers that cannot be cut into stages",
        "A stage of a pipeline hands on what `carry` names, and holds the states of its own layers alone. Layers that "
        "share states, and a second sequence of layers behind the first, do not come apart so.",
    ),
}

_DEVICE: dict[str, Code] = {
    "S602": Code(
        "Unknown device",
        "The chips are described in device_model/chips, a table of values with sources.",
    ),
    "S603": Code(
        "Unknown quantity of a device",
        "The chip's description does not say this, and a guess would not do.",
    ),
    "S604": Code(
        "Sums in another format",
        "An operation asks for sums in a format that the device does not accumulate in. Leave `accumulate` out to take "
        "the device's own.",
    ),
    "S605": Code(
        "Sequence longer than the model's positions",
        "The model looks positions up in a learned table, and a token would stand behind its end.",
    ),
    "S606": Code(
        "Faulty description of numerics",
        "The table of numerics in device_model/chips, or what a device says of them, does not say what it must; the "
        "message names the entry.",
    ),
    "S607": Code(
        "Numerics that a device does not have",
        "The device computes in the formats that its description lists, and the message lists them.",
    ),
    "S608": Code(
        "Faulty description of a device",
        "A chip's TOML file does not say what it must: every quantity has a value above zero, a source, a confidence. "
        "The message names the entry.",
    ),
    "S609": Code(
        "No unit for this",
        "The chip has no unit for the operation or the format, as far as its description says; a guess would not do.",
    ),
    "S610": Code(
        "Unusable table of shapes",
        "The table lacks columns that the operation's time depends on, or they hold no numbers.",
    ),
    "S611": Code(
        "Unusable calibration",
        "The fitted parameters of a chip family are not there or do not say what the cost formulas need.",
    ),
    "S612": Code(
        "Unusable sweep",
        "What is to be varied is unknown, has no values or impossible ones, or makes more points than are possible. "
        "The message names the entry.",
    ),
    "S613": Code(
        "Size that a load does not name",
        "Memory and time are asked about at a batch, new tokens, a context and a mesh. A program with more sizes that "
        "only a run knows, such as the memory of cross-attention, has no answer there.",
    ),
    "S615": Code(
        "No such task",
        "`sohu profile --explain` takes a part of the name of a task or of one of its operations.",
    ),
    "S616": Code(
        "Token without a row",
        "A token id is negative, or beyond the table that the model looks tokens up in. A tokenizer with more tokens "
        "than the model has rows belongs to another model.",
    ),
    "S617": Code(
        "Logits that no token can be chosen from",
        "A token is chosen from logits that are numbers, of which one at least is finite. What overflows in a narrow "
        "format is infinite, and what is made of that is no number.",
    ),
    "S618": Code(
        "Not to be cut by this mesh",
        "A chip of the mesh would have a part that means nothing alone: a range that begins inside of a block with one "
        "scale, rows that are quantised by what other chips have of them, a sum over experts of which it is not "
        "known who made what, or an exchange of weights. The message names the weight or the operation, and what would "
        "do.",
    ),
    "S601": Code("Unknown numerics", "The device model knows the numerics that the message lists."),
}

_FAULT: dict[str, Code] = {
    "S999": Code(
        "Internal fault",
        "The command met something that it did not expect, which is a fault of ours whatever the input was. Its exit "
        "status is 70. The message says where the traceback is; please report it.",
    ),
}

CODES: dict[str, Code] = (
    _SYNTAX | _NAMES | _SHARDING | MODEL_CODES | _DEVICE | COLLECTIVE_CODES | MESSAGE_CODES | _FAULT
)
