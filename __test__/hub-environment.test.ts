import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { cacheFolder, endpointAddress, findToken, isOffline } from '../js/hub/environment.js'
import { unsafeName } from '../js/hub/file-names.js'
import { retryAfter } from '../js/hub/failures.js'
import { proxyFor } from '../js/hub/proxy.js'
import { parseRepository } from '../js/hub/repository.js'
import { matcher, missingShards } from '../js/hub/selection.js'

const folder = mkdtempSync(join(tmpdir(), 'nodemlx-'))
afterAll(() => {
  rmSync(folder, { recursive: true })
})

describe('the cache', () => {
  it.each<[Record<string, string>, string]>([
    [{ HOME: '/home/x' }, '/home/x/.cache/huggingface/hub'],
    [{ HOME: '/home/x', XDG_CACHE_HOME: '/xdg' }, '/xdg/huggingface/hub'],
    [{ HOME: '/home/x', XDG_CACHE_HOME: '/xdg', HF_HOME: '/hf' }, '/hf/hub'],
    [{ HOME: '/home/x', HF_HOME: '~/hf' }, '/home/x/hf/hub'],
    [{ HF_HOME: '/hf', HUGGINGFACE_HUB_CACHE: '/old' }, '/old'],
    [{ HF_HOME: '/hf', HUGGINGFACE_HUB_CACHE: '/old', HF_HUB_CACHE: '/cache' }, '/cache'],
    [{ HF_HUB_CACHE: '', HF_HOME: '/hf' }, '/hf/hub'],
    [{ HOME: '/home/x', HF_HUB_CACHE: '~' }, '/home/x'],
    [{ HF_HUB_CACHE: 'models' }, resolve('models')],
    [{ HF_HUB_CACHE: '$BASE/a/${BASE}', BASE: '/b' }, '/b/a/b'],
    [{ USERPROFILE: '/users/x' }, '/users/x/.cache/huggingface/hub'],
    [{}, join(homedir(), '.cache/huggingface/hub')],
  ])('of %j is %s', (environment, expected) => {
    expect(cacheFolder(undefined, environment)).toBe(expected)
  })

  it('is that of the option first', () => {
    expect(cacheFolder('/mine', { HF_HUB_CACHE: '/cache' })).toBe('/mine')
    expect(cacheFolder('~/mine', { HOME: '/home/x' })).toBe('/home/x/mine')
  })
})

describe('the endpoint', () => {
  it('is the option, HF_ENDPOINT or the public hub, without a slash at its end', () => {
    expect(endpointAddress(undefined, {}).href).toBe('https://huggingface.co/')
    expect(endpointAddress(undefined, { HF_ENDPOINT: 'https://a/b/' }).href).toBe('https://a/b')
    expect(endpointAddress('http://c//', { HF_ENDPOINT: 'https://a' }).href).toBe('http://c/')
    expect(() => endpointAddress(undefined, { HF_ENDPOINT: 'a' })).toThrow(/HF_ENDPOINT: expected/)
    const secret = (): URL => endpointAddress(undefined, { HF_ENDPOINT: 'http://me:secret@a' })
    expect(secret).toThrow(/^(?!.*secret).*HF_ENDPOINT: has a user name or password/)
  })
})

describe('the token', () => {
  it('is the option, HF_TOKEN, or what is in the file', async () => {
    const path = join(folder, 'token')
    writeFileSync(path, 'from-file\n')
    mkdirSync(join(folder, 'home'))
    writeFileSync(join(folder, 'home', 'token'), 'from-home\r\n')
    const file = { HF_TOKEN_PATH: path, HF_HOME: join(folder, 'home') }
    const value = async (option: string | false | undefined, environment: Record<string, string>) =>
      (await findToken(option, environment))?.value
    expect(await value('mine', { HF_TOKEN: 'from-variable', ...file })).toBe('mine')
    expect(await value(undefined, { HF_TOKEN: ' from-variable\n', ...file })).toBe('from-variable')
    expect(await value(undefined, { HUGGING_FACE_HUB_TOKEN: 'old', ...file })).toBe('old')
    expect(await value(undefined, { HF_TOKEN: ' ', ...file })).toBe('from-file')
    expect(await value(undefined, { HF_HOME: join(folder, 'home') })).toBe('from-home')
    expect(await value(undefined, { HF_HOME: join(folder, 'none') })).toBeUndefined()
    expect(await value(false, { HF_TOKEN: 'from-variable' })).toBeUndefined()
    const disabled = { HF_HUB_DISABLE_IMPLICIT_TOKEN: 'yes', HF_TOKEN: 'from-variable', ...file }
    expect(await value(undefined, disabled)).toBeUndefined()
    expect(await value('mine', disabled)).toBe('mine')
    await expect(value(undefined, { HF_TOKEN: 'two words' })).rejects.toThrow(
      /HF_TOKEN holds no token/,
    )
  })
})

describe('offline', () => {
  it.each<[boolean | undefined, Record<string, string>, boolean]>([
    [undefined, {}, false],
    [undefined, { HF_HUB_OFFLINE: '1' }, true],
    [undefined, { HF_HUB_OFFLINE: 'yes' }, true],
    [undefined, { HF_HUB_OFFLINE: '0' }, false],
    [undefined, { TRANSFORMERS_OFFLINE: 'ON' }, true],
    [false, { HF_HUB_OFFLINE: '1' }, false],
    [true, {}, true],
  ])('%j with %j is %j', (option, environment, expected) => {
    expect(isOffline(option, environment)).toBe(expected)
  })
})

describe('proxies', () => {
  it.each<[string, Record<string, string>, string | undefined]>([
    ['https://hub.co/x', {}, undefined],
    ['https://hub.co/x', { HTTPS_PROXY: 'http://p:1' }, 'http://p:1/'],
    ['https://hub.co/x', { https_proxy: 'p:1' }, 'http://p:1/'],
    ['http://hub.co/x', { HTTPS_PROXY: 'http://p:1' }, undefined],
    ['http://hub.co/x', { HTTP_PROXY: 'http://p:1' }, 'http://p:1/'],
    ['http://hub.co/x', { ALL_PROXY: 'http://p:1' }, 'http://p:1/'],
    ['http://hub.co/x', { HTTP_PROXY: 'http://p:1', http_proxy: 'http://q:2' }, 'http://q:2/'],
    ['https://hub.co/x', { HTTPS_PROXY: 'http://p:1', NO_PROXY: '*' }, undefined],
    ['https://hub.co/x', { HTTPS_PROXY: 'http://p:1', NO_PROXY: 'a.b, hub.co' }, undefined],
    ['https://cdn.hub.co/x', { HTTPS_PROXY: 'http://p:1', no_proxy: 'hub.co' }, undefined],
    ['https://cdn.hub.co/x', { HTTPS_PROXY: 'http://p:1', no_proxy: '.hub.co' }, undefined],
    ['https://nothub.co/x', { HTTPS_PROXY: 'http://p:1', no_proxy: 'hub.co' }, 'http://p:1/'],
    ['https://hub.co:444/x', { HTTPS_PROXY: 'http://p:1', no_proxy: 'hub.co:443' }, 'http://p:1/'],
    ['https://hub.co/x', { HTTPS_PROXY: 'http://p:1', no_proxy: 'hub.co:443' }, undefined],
    ['http://127.0.0.1:8/x', { HTTP_PROXY: 'http://p:1', no_proxy: '127.0.0.1' }, undefined],
    ['http://10.1.2.3/x', { HTTP_PROXY: 'http://p:1', no_proxy: '10.0.0.0/8' }, undefined],
    ['http://11.1.2.3/x', { HTTP_PROXY: 'http://p:1', no_proxy: '10.0.0.0/8' }, 'http://p:1/'],
    ['http://[::1]:8/x', { HTTP_PROXY: 'http://p:1', no_proxy: '::1' }, undefined],
    ['http://[::1]:8/x', { HTTP_PROXY: 'http://p:1', no_proxy: '[::1]:8' }, undefined],
  ])('for %s with %j: %s', (url, environment, expected) => {
    expect(proxyFor(new URL(url), environment)?.href).toBe(expected)
  })

  it('of other kinds are refused', () => {
    const url = new URL('https://hub.co')
    expect(() => proxyFor(url, { HTTPS_PROXY: 'socks5://p:1' })).toThrow(/of the kind socks5/)
    expect(() => proxyFor(url, { HTTPS_PROXY: 'http://' })).toThrow(/not an address/)
  })
})

describe('names', () => {
  it.each([
    ['owner/name', { id: 'owner/name', revision: 'main' }],
    ['owner/name@v1.0', { id: 'owner/name', revision: 'v1.0' }],
    ['owner/name@refs/pr/1', { id: 'owner/name', revision: 'refs/pr/1' }],
    ['o_w.n-e1/N.a_m-e', { id: 'o_w.n-e1/N.a_m-e', revision: 'main' }],
    ['https://huggingface.co/owner/name', { id: 'owner/name', revision: 'main' }],
    ['https://hf.co/owner/name/tree/v1.0?x=1', { id: 'owner/name', revision: 'v1.0' }],
    [
      'https://huggingface.co/owner/name/tree/refs/pr/1/',
      { id: 'owner/name', revision: 'refs/pr/1' },
    ],
    ['https://huggingface.co/gpt2', { id: 'gpt2', revision: 'main' }],
    ['https://huggingface.co/gpt2/tree/v1', { id: 'gpt2', revision: 'v1' }],
    ['gpt2', undefined],
    ['https://example.com/owner/name', undefined],
    ['owner', undefined],
    ['owner/', undefined],
    ['/name', undefined],
    ['a/b/c', undefined],
    ['../name', undefined],
    ['owner/..', undefined],
    ['own--er/name', undefined],
    ['owner/name.git', undefined],
    ['owner/na me', undefined],
    ['owner/name@', undefined],
    ['owner/name@a/../b', undefined],
    ['owner/name@/a', undefined],
    ['owner/name@a\\b', undefined],
    [`owner/${'x'.repeat(100)}`, undefined],
  ])('%s means %j', (text, expected) => {
    expect(parseRepository(text)).toEqual(expected)
  })

  it.each([
    ['config.json', true],
    ['sub/folder/file.bin', true],
    ['con', false],
    ['COM1.txt', false],
    ['console.txt', true],
    ['sub/NUL', false],
    ['..', false],
    ['...', false],
    ['a/./b', false],
    ['trailing ', false],
    ['\ud800.json', false],
    ['ünïcödé.json', true],
  ])('%s is safe: %j', (name, safe) => {
    expect(unsafeName(name) === undefined).toBe(safe)
  })

  it('match patterns', () => {
    const matches = (pattern: string, name: string): boolean => matcher([pattern])(name)
    expect(matches('*.json', 'sub/config.json')).toBe(true)
    expect(matches('*.json', 'config.jsonl')).toBe(false)
    expect(matches('sub/', 'sub/a/b')).toBe(true)
    expect(matches('model-0000?-of-*.safetensors', 'model-00001-of-00002.safetensors')).toBe(true)
    expect(matches('model-[12].bin', 'model-2.bin')).toBe(true)
    expect(matches('model-[!12].bin', 'model-2.bin')).toBe(false)
    expect(matches('a.b+c(d)', 'a.b+c(d)')).toBe(true)
    expect(matches('a.b', 'axb')).toBe(false)
    expect(matches('[', '[')).toBe(true)
    expect(matcher([])('x')).toBe(false)
  })

  it('of shards say which are missing', () => {
    expect(missingShards(['model.safetensors'])).toEqual([])
    expect(
      missingShards(['model-00001-of-00003.safetensors', 'model-00003-of-00003.safetensors']),
    ).toEqual(['model-00002-of-00003.safetensors'])
  })
})

describe('Retry-After', () => {
  it('is seconds or a date', () => {
    expect(retryAfter(null)).toBe(0)
    expect(retryAfter('2')).toBe(2000)
    expect(retryAfter('soon')).toBe(0)
    expect(retryAfter('-5')).toBe(0)
    expect(retryAfter(new Date(Date.now() - 10_000).toUTCString())).toBe(0)
    expect(retryAfter(new Date(Date.now() + 60_000).toUTCString())).toBeGreaterThan(50_000)
  })
})
