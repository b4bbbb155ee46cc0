import { describe, expect, test } from 'vitest'
import { judgeUrl } from './judge-url.ts'

const secure = { allowInsecure: false }
const insecure = { allowInsecure: true }

describe('a webhook URL', () => {
  test.each(['https://example.com/hook', 'https://example.com:8443/a?b=c', 'https://93.184.215.14/', 'https://[2606:4700::1111]/'])(
    'may be %s',
    (url) => {
      expect(judgeUrl(url, secure)).toEqual({ url })
    },
  )

  test.each([
    [' https://example.com/hook', 'https://example.com/hook'],
    ['https://example.com/hook\n', 'https://example.com/hook'],
    ['\t\r\n https://example.com/a b', 'https://example.com/a%20b'],
    ['\u0000https://example.com/', 'https://example.com/'],
    ['https://exam\tple.com/ho\nok', 'https://example.com/hook'],
    ['https://example.com/a\u0000b', 'https://example.com/a%00b'],
    ['HTTPS:\\\\EXAMPLE.com:443\\hook', 'https://example.com/hook'],
    ['https:example.com/hook', 'https://example.com/hook'],
    ['https://example.com:00443/', 'https://example.com/'],
    ['https://ex\u00ADample.com/', 'https://example.com/'],
    ['https://b\u00fccher.example.com/\u00e4', 'https://xn--bcher-kva.example.com/%C3%A4'],
  ])('is returned in the form that was judged, however it was written: %j', (text, url) => {
    expect(judgeUrl(text, secure)).toEqual({ url })
  })

  test.each([
    'https://127.0.0.1/',
    'https://127.1/',
    'https://2130706433/',
    'https://0x7f.0.0.1/',
    'https://0177.0.0.1/',
    'https://0.0.0.0/',
    'https://10.0.0.1/',
    'https://172.16.0.1/',
    'https://192.168.1.1/',
    'https://169.254.169.254/latest/meta-data/',
    'https://100.64.0.1/',
    'https://100.100.100.200/',
    'https://168.63.129.16/',
    'https://192.0.0.192/',
    'https://198.18.0.1/',
    'https://224.0.0.1/',
    'https://255.255.255.255/',
    'https://[::1]/',
    'https://[::]/',
    'https://[fe80::1]/',
    'https://[fd00:ec2::254]/',
    'https://[ff02::1]/',
    'https://[::ffff:127.0.0.1]/',
    'https://[::ffff:93.184.215.14]/',
    'https://[64:ff9b::7f00:1]/',
    'https://[64:ff9b:1::7f00:1]/',
    'https://[::127.0.0.1]/',
    'https://[::93.184.215.14]/',
    'https://[::ffff:0:127.0.0.1]/',
    'https://[2001::1]/',
    'https://[fec0::1]/',
    'https://\uff11\uff12\uff17.0.0.1/',
    'https://127.0.0.1:65535/',
    ' https://127.0.0.1/',
    'https://127.0.\t0.1/',
    'https://redis:6379/',
    'https://[2002:7f00:1::]/',
    'https://localhost/',
    'https://LOCALHOST./',
    'https://a.localhost/',
    'https://redis/',
    'https://metadata.google.internal/',
    'https://printer.local/',
  ])('may not be %s, which has no public host', (url) => {
    expect(judgeUrl(url, secure)).toEqual({ expected: 'a URL with a public host' })
    expect(judgeUrl(url, insecure)).toHaveProperty('url')
  })

  test.each(['https://user@example.com/', 'https://:pass@example.com/', 'https://user:pass@example.com/'])(
    'may never carry credentials: %s',
    (url) => {
      expect(judgeUrl(url, secure)).toEqual({ expected: 'a URL without user name and password' })
      expect(judgeUrl(url, insecure)).toEqual({ expected: 'a URL without user name and password' })
    },
  )

  test('must be https, or may be http where that is allowed', () => {
    expect(judgeUrl('http://example.com/', secure)).toEqual({ expected: 'an https:// URL' })
    expect(judgeUrl('http://example.com/', insecure)).toEqual({ url: 'http://example.com/' })
    for (const url of ['ftp://example.com/', 'file:///etc/passwd', 'javascript:alert(1)', 'data:,x', 'redis://example.com']) {
      expect(judgeUrl(url, secure)).toEqual({ expected: 'an https:// URL' })
      expect(judgeUrl(url, insecure)).toEqual({ expected: 'an http:// or https:// URL' })
    }
  })

  test.each([
    '',
    'example.com/hook',
    '/hook',
    'https://',
    'https://a b/',
    'https://[::1/',
    'https://a.example.com:65536/',
    'https://a.example.com:x/',
    'https://a\u0000b.example.com/',
  ])('must be absolute, which %j is not', (url) => {
    expect(judgeUrl(url, insecure)).toEqual({ expected: 'an absolute URL' })
  })
})
