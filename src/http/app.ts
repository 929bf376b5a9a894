/**
 * The Express application. The order of its lines is the security policy: documents, then the route table, then 405 for its
 * paths, then 404 for all else. There is no body parser, no CORS and no trust in proxy headers here; `route.ts` does
 * the work of every route.
 */
import express, { type ErrorRequestHandler, type Express, type Request, type Response } from 'express';
import { serveDocs } from './docs.ts';
import { partsOf, patternOf } from './path.ts';
import type { Route, Runner } from './route.ts';

export function createApp(routes: readonly Route[], runner: Runner): Express {
  const app = express();
  app.disable('x-powered-by');
  app.disable('etag');
  app.set('query parser', false);
  const router = express.Router({ caseSensitive: true, strict: true });

  serveDocs(router, routes);
  for (const [path, ofPath] of byPath(routes)) {
    const parts = partsOf(path);
    const methods = new Map(ofPath.map((route) => [route.method as string, route]));
    const allow = ['Allow', [...methods.keys()].join(', ')];
    router.all(patternOf(path), (req: Request, res: Response) => {
      const route = methods.get(req.method);
      if (route === undefined) return runner.refuse('METHOD_NOT_ALLOWED', req, res, allow);
      return runner.run(route, parts(req.path), req, res);
    });
  }

  app.use(router);
  app.use((req: Request, res: Response) => runner.refuse('NOT_FOUND', req, res));
  const onError: ErrorRequestHandler = (error, req, res, _next) => {
    runner.refuse(error instanceof URIError ? 'NOT_FOUND' : 'INTERNAL', req, res);
  };
  app.use(onError);
  return app;
}

function byPath(routes: readonly Route[]): Map<string, Route[]> {
  return Map.groupBy(routes, (route) => route.path);
}
