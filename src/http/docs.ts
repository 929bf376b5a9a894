/**
 * `/openapi.json` and `/docs`. The page is Swagger UI from the installed package with a page and a start script of our own
 * (its own ones load a sample from elsewhere), under a policy that lets it speak to this origin only.
 */
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import type { Response, Router } from 'express';
import { describeApi } from './openapi.ts';
import type { Route } from './route.ts';

const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; style-src-attr 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; " +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const PAGE = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Keytether API</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="icon" href="data:,">
</head>
<body>
<div id="api"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
`;

const START = `SwaggerUIBundle({
  url: '/openapi.json',
  dom_id: '#api',
  validatorUrl: null,
  persistAuthorization: false,
  queryConfigEnabled: false,
});
`;

/** Files of the package that the page needs; no other is served. */
const ASSETS: Readonly<Record<string, string>> = {
  'swagger-ui.css': 'text/css; charset=utf-8',
  'swagger-ui-bundle.js': 'text/javascript; charset=utf-8',
};

export function serveDocs(router: Router, routes: readonly Route[]): void {
  const folder = dirname(createRequire(import.meta.url).resolve('swagger-ui-dist/package.json'));
  const description = JSON.stringify(describeApi(routes));

  router.get('/openapi.json', (_req, res) => {
    send(res, 'application/json', description);
  });
  router.get('/docs', (_req, res) => {
    send(res, 'text/html; charset=utf-8', PAGE);
  });
  router.get('/docs/start.js', (_req, res) => {
    send(res, 'text/javascript; charset=utf-8', START);
  });
  for (const [file, type] of Object.entries(ASSETS)) {
    router.get(`/docs/${file}`, (_req, res, next) => {
      secure(res, type);
      res.sendFile(join(folder, file), { cacheControl: false, lastModified: false }, (error) => {
        if (error !== undefined && !res.headersSent) next(error);
      });
    });
  }
}

function secure(res: Response, type: string): void {
  res.setHeader('Content-Type', type);
  res.setHeader('Cache-Control', 'no-store');
  res.setHeader('Content-Security-Policy', POLICY);
  res.setHeader('X-Content-Type-Options', 'nosniff');
  res.setHeader('Referrer-Policy', 'no-referrer');
  res.setHeader('Cross-Origin-Opener-Policy', 'same-origin');
  res.setHeader('Cross-Origin-Resource-Policy', 'same-origin');
}

function send(res: Response, type: string, text: string): void {
  secure(res, type);
  res.end(text);
}
