import { z } from 'zod';
import { ERRORS } from '../contracts/errors.ts';
import type { Resource } from './resource.ts';

const OPENAPI_VERSION = '3.1.0';

const errorAnswer = {
  description: 'A failure, with its code and how to fix it.',
  content: { 'application/json': { schema: { $ref: '#/components/schemas/Error' } } },
};

/** The JSON Schema of a parameter, without what OpenAPI says elsewhere. */
function parameters(shape: z.ZodObject, where: 'path' | 'query'): unknown[] {
  const { properties = {}, required = [] } = z.toJSONSchema(shape, { io: 'input' });
  return Object.entries(properties).map(([name, schema]) => ({
    name,
    in: where,
    required: where === 'path' || required.includes(name),
    ...(typeof schema === 'object' && schema.description !== undefined ? { description: schema.description } : {}),
    schema,
  }));
}

/** The JSON Schema of a body, without the line that names its dialect: the document has one for all. */
function bodySchema(body: z.ZodObject): unknown {
  const { $schema: _dialect, ...schema } = z.toJSONSchema(body, { io: 'input' });
  return schema;
}

/** The OpenAPI document of `/api/v1`, made from the table of what it answers. */
export function openApiDocument(resources: readonly Resource[], version: string): unknown {
  const paths: Record<string, Record<string, unknown>> = {};
  for (const resource of resources) {
    const { method = 'get', body } = resource;
    const name = resource.path
      .split(/[^a-zA-Z]+/)
      .filter(Boolean)
      .map((word) => word[0]?.toUpperCase() + word.slice(1))
      .join('');
    paths[`/api/v1${resource.path}`] = {
      ...paths[`/api/v1${resource.path}`],
      [method]: {
        operationId: `${method}${name}`,
        summary: resource.summary,
        parameters: [...parameters(resource.params, 'path'), ...parameters(resource.query, 'query')],
        ...(body === undefined ? {} : { requestBody: { required: true, content: { 'application/json': { schema: bodySchema(body) } } } }),
        responses: {
          '200': {
            description: resource.summary,
            content: { 'application/json': { schema: { $ref: `#/components/schemas/${resource.answers === 'page' ? 'Page' : 'Object'}` } } },
          },
          default: errorAnswer,
        },
      },
    };
  }
  return {
    openapi: OPENAPI_VERSION,
    info: { title: 'Millrace', version, description: 'What Millrace has learned: runs, datasets, models, endpoints, decisions.' },
    paths,
    security: [{}, { bearer: [] }],
    components: {
      securitySchemes: { bearer: { type: 'http', scheme: 'bearer' } },
      schemas: {
        Object: { type: 'object', additionalProperties: true },
        Page: {
          type: 'object',
          required: ['items', 'next'],
          properties: {
            items: { type: 'array', items: { $ref: '#/components/schemas/Object' } },
            next: { type: ['string', 'null'], description: 'Give it as `after` for the page that follows; null at the end.' },
          },
        },
        Error: {
          type: 'object',
          required: ['code', 'message', 'fix', 'problems', 'requestId'],
          properties: {
            code: { type: 'string', enum: Object.keys(ERRORS) },
            message: { type: 'string' },
            fix: { type: 'string' },
            problems: { type: 'array', items: { type: 'object', required: ['path', 'message'], additionalProperties: true } },
            requestId: { type: 'string' },
          },
        },
      },
    },
  };
}
