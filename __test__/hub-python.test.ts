// The cache is shared with Python's huggingface_hub: each reads what the other wrote, and neither
// loads what the other has.

import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { downloadModel, listModels, loadModel } from '../js/index.js'
import { getNative } from '../js/native.js'
import { HubFixture, modelFiles, noise } from './support/hub-fixtures.js'
import { installHuggingFaceHub, runPython } from './support/huggingface-hub.js'

const hub = new HubFixture()
beforeAll(installHuggingFaceHub, 400_000)

const FILES: Record<string, Buffer | string> = {
  ...modelFiles(noise(2_000_000)),
  'additional_chat_templates/tool_use.jinja': '{{ tools }}',
}

async function python(source: string, environment: NodeJS.ProcessEnv = {}): Promise<unknown> {
  const { code, stdout, stderr } = await runPython(source, {
    HF_HUB_CACHE: hub.cacheDir,
    HF_ENDPOINT: hub.server.endpoint,
    ...environment,
  })
  expect({ code, stderr: code === 0 ? '' : stderr }).toEqual({ code: 0, stderr: '' })
  return JSON.parse(stdout)
}

/** All that lies in the cache: links with their targets, and files with their contents. */
const TREE = `
import json, os, sys
def tree(root):
    found = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            key = os.path.relpath(path, root)
            if os.path.islink(path):
                found[key] = '-> ' + os.readlink(path)
            elif not key.startswith('.locks') and '/trees/' not in key and name != 'CACHEDIR.TAG':
                found[key] = open(path, 'rb').read().hex()[:200]
    return found
`

describe('huggingface_hub', () => {
  it('lays out the same cache', async () => {
    hub.server.add('owner/same', FILES)
    const tree = `${TREE}\nprint(json.dumps(tree(os.environ['HF_HUB_CACHE'])))`
    await downloadModel('owner/same', hub.options)
    const ours = await python(tree)
    rmSync(join(hub.cacheDir, 'models--owner--same'), { recursive: true })
    await python(`
from huggingface_hub import snapshot_download
snapshot_download('owner/same', allow_patterns=['*.json', '*.safetensors', '*.jinja'])
print('{}')`)
    expect(ours).toEqual(await python(tree))
  })

  it('finds what was downloaded here, without the network', async () => {
    hub.server.add('owner/ours', FILES, 'refs/pr/1')
    const commit = hub.server.add('owner/ours', FILES, 'main')
    const { path } = await downloadModel('owner/ours', hub.options)
    await downloadModel('owner/ours@refs/pr/1', hub.options)
    hub.server.requests.length = 0
    const found = await python(
      `
import json
from huggingface_hub import hf_hub_download, snapshot_download, scan_cache_dir, try_to_load_from_cache
info = scan_cache_dir()
[repo] = info.repos
print(json.dumps({
  'snapshot': snapshot_download('owner/ours'),
  'commit': snapshot_download('owner/ours', revision='${commit}'),
  'request': snapshot_download('owner/ours', revision='refs/pr/1'),
  'file': hf_hub_download('owner/ours', 'additional_chat_templates/tool_use.jinja'),
  'config': try_to_load_from_cache('owner/ours', 'config.json'),
  'warnings': [str(it) for it in info.warnings],
  'refs': sorted(ref for revision in repo.revisions for ref in revision.refs),
  'size': repo.size_on_disk,
}))`,
      { HF_HUB_OFFLINE: '1' },
    )
    const [model] = await listModels({ cacheDir: hub.cacheDir })
    expect(found).toEqual({
      snapshot: path,
      commit: path,
      request: path,
      file: join(path, 'additional_chat_templates', 'tool_use.jinja'),
      config: join(path, 'config.json'),
      warnings: [],
      refs: ['main', 'refs/pr/1'],
      size: model?.bytes,
    })
    expect(hub.server.requests).toEqual([])
  })

  it('downloads nothing that was downloaded here', async () => {
    hub.server.add('owner/again', FILES)
    await downloadModel('owner/again', hub.options)
    hub.server.requests.length = 0
    await python(`
from huggingface_hub import snapshot_download
snapshot_download('owner/again', allow_patterns=['*.json', '*.safetensors', '*.jinja'])
print('{}')`)
    expect(
      hub.server.requests.filter(({ file, method }) => file !== undefined && method === 'GET'),
    ).toEqual([])
  })

  it('has downloaded what is loaded here, without the network', async () => {
    hub.server.add('owner/theirs', FILES)
    const path = await python(`
import json
from huggingface_hub import snapshot_download
print(json.dumps(snapshot_download('owner/theirs')))`)
    hub.server.requests.length = 0
    // The weights are noise: they are found, and then refused.
    await expect(loadModel('owner/theirs', hub.options)).rejects.toMatchObject({
      code: 'INVALID_WEIGHTS',
      message: expect.stringContaining(String(path)) as string,
    })
    expect(hub.server.requests).toEqual([])
    expect(await downloadModel('owner/theirs', hub.options)).toMatchObject({
      path,
      downloadedBytes: 0,
    })
    expect(readFileSync(join(String(path), 'model.safetensors'))).toEqual(
      FILES['model.safetensors'],
    )
  })

  it('notes what is missing, which is not asked for here', async () => {
    const commit = hub.server.add('owner/missing', {
      'config.json': FILES['config.json'] ?? '',
      'model.safetensors': 'x',
    })
    await python(`
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
for name in ['config.json', 'model.safetensors', 'tokenizer.json']:
    try:
        hf_hub_download('owner/missing', name)
    except EntryNotFoundError:
        pass
print('{}')`)
    expect(hub.names('owner/missing', `.no_exist/${commit}`)).toEqual(['tokenizer.json'])
    hub.server.requests.length = 0
    await expect(loadModel('owner/missing', hub.options)).rejects.toMatchObject({
      code: 'INVALID_WEIGHTS',
    })
    expect(hub.server.requests).toEqual([])
  })

  it('waits for a lock that is held here, and is waited for', async () => {
    const path = join(hub.cacheDir, 'x.lock')
    mkdirSync(hub.cacheDir, { recursive: true })
    const lock = getNative().lockFile(path)
    const attempt = `
import json
from filelock import FileLock, Timeout
try:
    with FileLock('${path}', timeout=0.2):
        print('true')
except Timeout:
    print('false')`
    expect(lock).not.toBeNull()
    expect(getNative().lockFile(path)).toBeNull()
    expect(await python(attempt)).toBe(false)
    lock?.release()
    expect(await python(attempt)).toBe(true)
    const theirs = await python(`
import json, subprocess
from filelock import FileLock
node = '''${process.execPath}'''
with FileLock('${path}'):
    source = "console.log(require('./npm/${process.platform}-${process.arch}/nodemlx.node').lockFile('${path}') === null)"
    print(subprocess.run([node, '-e', source], capture_output=True, text=True).stdout)`)
    expect(theirs).toBe(true)
  })
})
