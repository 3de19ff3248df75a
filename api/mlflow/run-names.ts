import { randomInt } from 'node:crypto';

const QUALITIES = [
  'able amber ample ancient artful bold brave breezy bright brisk calm candid careful cheerful clean clear clever cosmic crisp curious',
  'daring deft eager earnest elegant fair fearless fine fleet fresh gentle glad golden graceful grand hardy honest humble jolly keen',
  'kind lively loyal lucid lucky mellow merry mighty modest neat nimble noble patient placid polite proud quick quiet radiant rapid',
  'ready robust rustic serene sharp silent silver smart smooth snug solid spry steady sunny swift tidy tough upbeat vivid warm wise witty',
].flatMap((line) => line.split(' '));
const THINGS = [
  'acorn alder anchor arch aspen badger barge basin beech birch bobbin bream brook canal cedar chute clay cog crane creek dale delta',
  'dipper dredger dyke eddy elder elm fern ferry finch flume ford forge gear glade grain gravel grist grove gull gudgeon heron hopper',
  'inlet kiln larch leat ledge lever lock loom maple marsh meadow millstone mire moss newt oak otter paddle pebble perch pike pine pond',
  'pulley quay rapid reed ridge rill robin rowan rush sedge shaft shoal sluice spindle spring spruce stone strand swan tern thresher',
  'timber trout turbine vale vane wagtail weir wharf wheel willow wren yew',
].flatMap((line) => line.split(' '));

/** A name for something that was given none: `brisk-weir-417`. */
export function randomName(): string {
  return `${QUALITIES[randomInt(QUALITIES.length)] ?? ''}-${THINGS[randomInt(THINGS.length)] ?? ''}-${randomInt(1000)}`;
}
