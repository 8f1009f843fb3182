/** An option of the command line. */
export interface Flag {
  /** The long name, without dashes. */
  name: string
  short?: string
  /** What the value is called in the help; a flag without one takes no value. */
  value?: string
  /** May be given several times. */
  many?: boolean
  help: string
}

export interface Command {
  name: string
  /** What goes after the name. */
  usage: string
  summary: string
  /** More about it, for its own help. */
  details: string
  flags: readonly Flag[]
  /** Lines `[what is typed, what it does]`. */
  examples: readonly (readonly [string, string])[]
}

const MODEL: Flag = {
  name: 'model',
  short: 'm',
  value: 'MODEL',
  help: "A folder, an alias, owner/name[@revision] (downloaded first), or 'demo' (the default)",
}
const HOW_TO_LOAD: readonly Flag[] = [
  { name: 'device', value: 'DEVICE', help: 'auto, gpu or cpu' },
  { name: 'dtype', value: 'TYPE', help: 'auto, float32, bfloat16 or float16' },
  { name: 'threads', value: 'N', help: 'How many threads compute on the CPU' },
  { name: 'precision', value: 'P', help: 'fastest, fast or exact: how the CPU multiplies' },
  {
    name: 'context-length',
    value: 'N',
    help: 'The most tokens of a prompt and its answer, no more than the model is made for',
  },
  { name: 'force', help: 'Load the model also where it seems not to fit the memory' },
  { name: 'adapter', value: 'ADAPTER', help: 'A folder or owner/name of an adapter to run with' },
  {
    name: 'draft-model',
    value: 'MODEL',
    help: 'A smaller model with the same tokenizer that guesses tokens',
  },
]
const LOADING: readonly Flag[] = [MODEL, ...HOW_TO_LOAD]
const SAMPLING: readonly Flag[] = [
  { name: 'system', value: 'TEXT', help: 'A system prompt' },
  { name: 'max-tokens', short: 'n', value: 'N', help: 'The most tokens to generate' },
  {
    name: 'temperature',
    short: 't',
    value: 'X',
    help: '0 always takes the likeliest token, more is more varied',
  },
  {
    name: 'top-p',
    value: 'X',
    help: 'Take from the likeliest tokens that together have this probability',
  },
  { name: 'top-k', value: 'N', help: 'Take from this many likeliest tokens' },
  {
    name: 'min-p',
    value: 'X',
    help: "Leave out tokens below this part of the likeliest one's probability",
  },
  {
    name: 'typical-p',
    value: 'X',
    help: 'Take from the tokens of the most typical surprise that have this probability',
  },
  {
    name: 'top-n-sigma',
    value: 'X',
    help: 'Leave out logits more than this many deviations below the largest',
  },
  {
    name: 'dynamic-temperature-range',
    value: 'X',
    help: 'Let the temperature go up and down by this much with the entropy',
  },
  { name: 'mirostat', value: '2', help: 'Keep the surprise of tokens near a target (Mirostat 2)' },
  {
    name: 'dry-multiplier',
    value: 'X',
    help: 'Penalize going on as an earlier text did, this strongly (DRY)',
  },
  {
    name: 'repetition-penalty',
    value: 'X',
    help: 'Above 1: make what was said lately less likely',
  },
  {
    name: 'max-kv-size',
    value: 'N',
    help: 'Keep the first four tokens and the latest, no more than this many',
  },
  { name: 'kv-bits', value: 'BITS', help: 'Pack keys and values in 4 or 8 bits to save memory' },
  {
    name: 'speculation',
    value: 'HOW',
    help: 'auto or off: guess tokens from what was said before, with the draft model or a head',
  },
  { name: 'seed', value: 'N', help: 'The same seed gives the same answer' },
  {
    name: 'stop',
    value: 'TEXT',
    many: true,
    help: 'End the answer where this text appears; may be repeated',
  },
  {
    name: 'ban',
    value: 'TEXT',
    many: true,
    help: 'Keep this text out of the answer; may be repeated',
  },
  { name: 'min-tokens', value: 'N', help: 'Let nothing end the answer before this many tokens' },
  { name: 'max-time-ms', value: 'N', help: 'End the answer after this many milliseconds' },
]
const PLAIN: Flag = { name: 'plain', help: 'Show Markdown as it is written, also on a terminal' }
const JSON_FLAG: Flag = { name: 'json', help: 'Print one JSON object instead' }
const NO_STATS: Flag = { name: 'no-stats', help: 'Print no statistics' }

/** Understood with every command. */
const COMMON: readonly Flag[] = [
  { name: 'verbose', help: 'Show where an error comes from' },
  { name: 'help', short: 'h', help: 'Show this help' },
  { name: 'version', short: 'v', help: 'Show the version' },
]

/** What `nodemlx` does without a command. */
export const PROMPT_COMMAND: Command = {
  name: '',
  usage: '[options] [prompt…] [-]',
  summary: 'Answer a prompt, or start a chat where there is none',
  details:
    'The answer goes to standard output, everything else to standard error. What is piped in is added to the prompt, or is the prompt; - waits for it where a program leaves it open. ' +
    'A prompt that is also the name of a command goes after --.',
  flags: [
    ...LOADING,
    ...SAMPLING,
    { name: 'raw', help: 'Continue the prompt as it is, without the chat template' },
    { name: 'special-tokens', help: 'Write special tokens out in the answer' },
    JSON_FLAG,
    PLAIN,
    NO_STATS,
    ...COMMON,
  ],
  examples: [
    ['nodemlx "What is the capital of France?"', 'Answer with the demo model'],
    ['cat notes.txt | nodemlx -m qwen "Summarise:"', 'Work on what is piped in'],
    ['nodemlx --json -t 0 "Spell cat." | jq -r .text', 'Use it in scripts'],
  ],
}

/** By name. */
export const COMMANDS: readonly Command[] = [
  {
    name: 'chat',
    usage: '[options]',
    summary: 'Talk with a model that remembers the conversation',
    details: 'Ctrl-C stops an answer, Ctrl-D leaves. /help shows the commands inside.',
    flags: [
      ...LOADING,
      ...SAMPLING,
      { name: 'tools', value: 'FILE', help: 'A module with tools that the model may call' },
      PLAIN,
      NO_STATS,
      ...COMMON,
    ],
    examples: [['nodemlx chat -m qwen --system "Answer briefly."', 'Talk with another model']],
  },
  {
    name: 'serve',
    usage: '[options] [[name=]model…]',
    summary: "Serve models with OpenAI's and Anthropic's APIs, and a chat page",
    details:
      'A model is an alias, owner/name[@revision] (downloaded first), a folder or demo, which is served where none is given; name=model gives it another name. Each is loaded at its first request. ' +
      'Only this machine is served unless --host says otherwise, which needs a key: NODEMLX_API_KEY, or --api-key, which other users of the machine may see. Ctrl-C ends it once what is being answered is done.',
    flags: [
      { name: 'port', value: 'N', help: 'The port (8080); 0 takes a free one' },
      { name: 'host', value: 'ADDRESS', help: 'The address to listen at (127.0.0.1)' },
      {
        name: 'api-key',
        value: 'KEY',
        many: true,
        help: 'A key that requests have to bring; may be repeated',
      },
      {
        name: 'cors',
        value: 'ORIGIN',
        many: true,
        help: 'A site whose pages may ask, such as https://example.com; may be repeated',
      },
      {
        name: 'allow-host',
        value: 'NAME',
        many: true,
        help: 'A name under which the server is asked; may be repeated',
      },
      { name: 'cached', help: 'Serve the models in the cache, too' },
      { name: 'memory', value: 'GB', help: 'The most that loaded models take together' },
      { name: 'idle', value: 'MINUTES', help: 'Unload a model that was not used for so long (10)' },
      { name: 'concurrent', value: 'N', help: 'Answers at the same time (16)' },
      { name: 'queue', value: 'N', help: 'Requests that wait; more are refused (128)' },
      { name: 'max-tokens', short: 'n', value: 'N', help: 'The most tokens of an answer' },
      { name: 'no-page', help: 'Serve no chat page' },
      ...HOW_TO_LOAD,
      ...COMMON,
    ],
    examples: [
      ['nodemlx serve qwen', 'Talk at http://127.0.0.1:8080, or point any client to it'],
      ['nodemlx serve small=qwen3-0.6b big=qwen3-8b', 'Two models, by names of your own'],
    ],
  },
  {
    name: 'info',
    usage: '[options] [model]',
    summary: 'Show what a model is, or, without one, what this machine has',
    details: '',
    flags: [...LOADING, JSON_FLAG, ...COMMON],
    examples: [['nodemlx info demo', 'About the demo model']],
  },
  {
    name: 'bench',
    usage: '[options] [model]',
    summary: 'Measure how fast a model reads and writes',
    details:
      'Every round reads a prompt of random tokens and generates from it; the figures are the median of the rounds.',
    flags: [
      ...LOADING,
      { name: 'prompt-tokens', short: 'p', value: 'N', help: 'Tokens of the prompt (512)' },
      { name: 'max-tokens', short: 'n', value: 'N', help: 'Tokens to generate (128)' },
      {
        name: 'rounds',
        short: 'r',
        value: 'N',
        help: 'Rounds to measure, after one that is not (3)',
      },
      JSON_FLAG,
      ...COMMON,
    ],
    examples: [['nodemlx bench -m llama-3.2-1b -p 2048', 'A longer prompt']],
  },
  {
    name: 'download',
    usage: '[options] model…',
    summary: 'Get models, or what is new of them, into the cache',
    details:
      'A model is an alias or owner/name[@revision]. A download that was cut off goes on where it ended. The cache is the one of all tools for the Hugging Face hub; ' +
      'HF_HUB_CACHE, HF_TOKEN, HF_ENDPOINT and their relatives are understood.',
    flags: [
      { name: 'revision', value: 'NAME', help: 'A branch, a tag or a commit' },
      {
        name: 'include',
        value: 'PATTERN',
        many: true,
        help: 'Files to get, in place of those that a model needs; may be repeated',
      },
      {
        name: 'exclude',
        value: 'PATTERN',
        many: true,
        help: 'Files to leave out; may be repeated',
      },
      {
        name: 'verify',
        help: 'Read the files that are there, and download those again that are damaged',
      },
      JSON_FLAG,
      ...COMMON,
    ],
    examples: [['nodemlx download qwen3-8b', 'Be ready for a day without network']],
  },
  {
    name: 'models',
    usage: '[options]',
    summary: 'Show the models in the cache',
    details: '',
    flags: [JSON_FLAG, ...COMMON],
    examples: [["nodemlx models --json | jq '.[].id'", 'Their names alone']],
  },
  {
    name: 'convert',
    usage: '[options] --out DIR model',
    summary: 'Write a model anew: quantized, dequantized or in another type',
    details:
      'A model is a folder, an alias or owner/name[@revision]. What is written is what mlx_lm.convert would write, and mlx-lm loads it, too. ' +
      'Without --bits, --group-size, --mode, --recipe, --layer or --calibrate nothing is quantized. ' +
      'A PATTERN is consecutive parts of the paths of modules, such as down_proj, layers.0 or layers.*.self_attn; the last that fits wins.',
    flags: [
      { name: 'out', short: 'o', value: 'DIR', help: 'The folder to make' },
      { name: 'bits', short: 'b', value: 'N', help: 'Bits of a number: 2, 3, 4, 5, 6 or 8 (4)' },
      { name: 'group-size', value: 'N', help: 'Numbers that share a scale: 32, 64 or 128 (64)' },
      { name: 'mode', value: 'MODE', help: 'affine (the default), mxfp4, mxfp8 or nvfp4' },
      {
        name: 'recipe',
        value: 'NAME',
        help: 'More bits where it matters: mixed_2_6, mixed_3_4, mixed_3_6 or mixed_4_6',
      },
      {
        name: 'layer',
        value: 'PATTERN=BITS',
        many: true,
        help: 'Bits of some modules, or none to leave them as they are; may be repeated',
      },
      {
        name: 'calibrate',
        value: 'FILE',
        help: 'Choose the bits of each layer by what a text loses; with one of the next two',
      },
      { name: 'calibrate-bits', value: 'N', help: 'Bits per weight of the whole, such as 4.5' },
      { name: 'calibrate-bytes', value: 'N', help: 'Bytes of the whole' },
      {
        name: 'dtype',
        value: 'TYPE',
        help: 'float32, bfloat16 or float16, for what is not quantized',
      },
      { name: 'dequantize', help: 'Make numbers of what is quantized' },
      { name: 'overwrite', help: 'Replace a model that is in the folder' },
      { name: 'revision', value: 'NAME', help: 'A branch, a tag or a commit' },
      JSON_FLAG,
      ...COMMON,
    ],
    examples: [
      ['nodemlx convert owner/name --out name-4bit --bits 4', 'Four bits for each number'],
      ['nodemlx convert name -o out -b 4 --layer down_proj=8', 'Eight of them for some matrices'],
      [
        'nodemlx convert name -o out --calibrate text.txt --calibrate-bits 4.5',
        'As many for each layer as the text needs',
      ],
    ],
  },
  {
    name: 'fuse',
    usage: '[options] --adapter ADAPTER --out DIR [model]',
    summary: 'Write a model anew with an adapter in its weights',
    details:
      'The model is a folder, an alias or owner/name[@revision]; an adapter is a folder or owner/name, as mlx-lm or PEFT writes it. ' +
      'What is quantized is quantized again in its own format.',
    flags: [
      MODEL,
      { name: 'adapter', value: 'ADAPTER', help: 'The adapter' },
      { name: 'out', short: 'o', value: 'DIR', help: 'The folder to make' },
      { name: 'dequantize', help: 'Make numbers of what is quantized' },
      { name: 'overwrite', help: 'Replace a model that is in the folder' },
      JSON_FLAG,
      ...COMMON,
    ],
    examples: [['nodemlx fuse -m name --adapter ./pirate -o name-pirate', 'One model of two']],
  },
  {
    name: 'rm',
    usage: '[options] model…',
    summary: 'Remove models from the cache',
    details: 'With @revision only that revision goes, and the files that no other one has.',
    flags: [JSON_FLAG, ...COMMON],
    examples: [['nodemlx rm qwen3-8b', 'Make room']],
  },
  {
    name: 'doctor',
    usage: '[options]',
    summary: 'Show what this machine has for models, what is missing, and what to do',
    details: 'Where no model can run at all the exit code is 1.',
    flags: [JSON_FLAG, ...COMMON],
    examples: [['nodemlx doctor --json', 'What to put into a report of a fault']],
  },
  {
    name: 'setup',
    usage: '[options] cuda',
    summary: "Get NVIDIA's libraries, which models on its cards need",
    details:
      'pip puts them into the folder of the package for CUDA, and nowhere else; ' +
      'some 2 GB are downloaded. Installing that package anew removes them.',
    flags: [
      { name: 'dry-run', help: 'Print what would be typed, and do nothing' },
      { name: 'force', help: 'Get them anew although they are there' },
      ...COMMON,
    ],
    examples: [['nodemlx setup cuda', 'Once, after npm install @nodemlx/linux-x64-cuda13']],
  },
]

export function commandNamed(name: string): Command | undefined {
  return COMMANDS.find((command) => command.name === name)
}
