"""The modules of Box2D's solver called one by one, with random inputs, so that exactly one of them acts.

Each function makes `count` rows: inputs, in the order in which modules.cpp reads them, and what the real Box2D made of
them, in the order in which it writes them. What pybox2d does not expose acts in a world of its own: gravity, continuous
collision or the other kind of iterations are switched off.
"""

from dataclasses import dataclass

import Box2D
import numpy as np

TIME_STEP = 0.02
FLOAT = np.float32


@dataclass
class Shape:
    """A body of Gymnasium's: its fixture's shape, which lives as long as its environment does, and what the solver
    knows of it, all float32."""

    name: str
    environment: object
    shape: object
    density: float
    vertices: np.ndarray  # [n, 2]
    normals: np.ndarray
    mass: list  # inverse mass, inverse inertia, centre of mass x, y

    @staticmethod
    def of(name, environment, body):
        fixture = body.fixtures[0]
        points = map(_rows, (fixture.shape.vertices, fixture.shape.normals))
        shape = Shape(name, environment, fixture.shape, fixture.density, *points, [])
        world = _world()
        shape.mass = mass_of(world.CreateDynamicBody(fixtures=shape.fixture()))
        return shape

    def fixture(self, friction=0.2):
        return Box2D.b2FixtureDef(shape=self.shape, density=self.density, friction=friction)


def _rows(points):
    return np.array([tuple(point) for point in points], FLOAT)


def _world():
    world = Box2D.b2World(gravity=(0, 0), doSleep=False)
    world.continuousPhysics = False
    return world


def mass_of(body):
    """What the solver divides by, which nothing exposes: the velocities that impulses of 1 give to a body at rest."""
    _set(body, velocity=(0, 0), spin=0)
    body.ApplyLinearImpulse((1, 0), body.worldCenter, True)
    body.ApplyAngularImpulse(1, True)
    mass = [body.linearVelocity.x, body.angularVelocity, *body.localCenter]
    _set(body, velocity=(0, 0), spin=0)
    return mass


def _set(body, **state):
    if "position" in state:
        body.transform = (tuple(map(float, state["position"])), float(state["angle"]))
    body.linearVelocity = tuple(map(float, state["velocity"]))
    body.angularVelocity = float(state["spin"])


def _state(body):
    return [*body.worldCenter, body.angle, *body.linearVelocity, body.angularVelocity]


def _manifold(manifold):
    """Touching points, whether the face is the polygon's, normal, point of the face, points."""
    points = [tuple(point.localPoint) for point in manifold.points]
    count = len(points)
    if count == 0:
        return [0] * 10
    points += [(0.0, 0.0)] * (2 - count)
    on_polygon = manifold.type_ == Box2D.b2Manifold.e_faceB
    return [count, on_polygon, *manifold.localNormal, *manifold.localPoint, *points[0], *points[1]]


# ---- Joints


class _Joints:
    """Two bodies of random masses in a world of their own, and one random joint after the other between them."""

    def __init__(self, rng):
        self.rng, self.world = rng, _world()
        self.bodies = [self.world.CreateDynamicBody(), self.world.CreateDynamicBody()]

    def draw(self, apart):
        """A joint whose anchors are up to `apart` from each other; half of them at a limit or beyond it."""
        rng = self.rng
        for body in self.bodies:
            mass, (x, y) = np.exp(rng.uniform(np.log(0.05), np.log(6))), rng.uniform(-0.3, 0.3, 2)
            inertia = mass * rng.uniform(0.1, 0.7) ** 2
            body.massData = Box2D.b2MassData(mass=mass, center=(x, y), I=inertia + mass * (x * x + y * y))
        self.masses = [mass_of(body) for body in self.bodies]
        self.anchors = rng.uniform(-0.7, 0.7, (2, 2)).astype(FLOAT)
        self.lower = rng.uniform(-1.6, 0.5)
        self.upper = self.lower + rng.uniform(0.1, 1.5)
        self.reference = rng.uniform(-0.1, 0.1)
        self.torque = rng.uniform(0, 80)
        self.joint = self.world.CreateRevoluteJoint(
            bodyA=self.bodies[0],
            bodyB=self.bodies[1],
            localAnchorA=tuple(map(float, self.anchors[0])),
            localAnchorB=tuple(map(float, self.anchors[1])),
            referenceAngle=self.reference,
            lowerAngle=self.lower,
            upperAngle=self.upper,
            enableLimit=True,
            enableMotor=True,
            maxMotorTorque=self.torque,
        )
        self.place(apart)

    def place(self, apart, move=0.0):
        """Both bodies anew, with random velocities of size `move`, and another speed of the motor."""
        rng, (a, b) = self.rng, self.bodies
        self.motor = [rng.uniform(-6, 6), FLOAT(TIME_STEP) * FLOAT(self.torque)]
        self.joint.motorSpeed = self.motor[0]
        at = rng.choice([self.lower, self.upper, rng.uniform(self.lower, self.upper)], p=[0.25, 0.25, 0.5])
        turns = rng.uniform(-3, 3)
        moves = move * rng.uniform(-1, 1, (2, 3))
        _set(a, position=rng.uniform(-20, 20, 2), angle=turns, velocity=moves[0, :2], spin=moves[0, 2])
        angle = turns + self.reference + at + rng.uniform(-0.05, 0.05)
        origin = np.array(a.GetWorldPoint(tuple(map(float, self.anchors[0]))))
        c, s = np.cos(angle), np.sin(angle)
        origin -= np.array([[c, -s], [s, c]]) @ self.anchors[1] - rng.uniform(-apart, apart, 2)
        _set(b, position=origin, angle=angle, velocity=moves[1, :2], spin=moves[1, 2])

    def inputs(self):
        """Masses, then the joint's fixed part as RevoluteJointDef."""
        arms = [self.anchors[i] - np.array(self.masses[i][2:], FLOAT) for i in range(2)]
        return [*self.masses[0], *self.masses[1], *arms[0], *arms[1], self.reference, self.lower, self.upper]

    def impulses(self):
        joint = self.joint
        return [*joint.GetReactionForce(1.0), joint.GetReactionTorque(1.0), joint.GetMotorTorque(1.0)]

    def states(self):
        return [*_state(self.bodies[0]), *_state(self.bodies[1])]


def joint_velocity(rng, count):
    """Every second row begins with the impulses that the row before it ended with."""
    joints, rows, results = _Joints(rng), [], []
    while len(rows) < count:
        joints.draw(0.02)
        for warm in range(2):
            joints.place(0.02, move=5.0)
            before = joints.impulses() if warm else [0.0] * 4
            iterations = int(rng.integers(1, 5))
            rows.append([iterations, *joints.inputs(), *joints.motor, *before, *joints.states()])
            joints.world.Step(TIME_STEP, iterations, 0)
            results.append([*joints.states(), *joints.impulses()])
        joints.world.DestroyJoint(joints.joint)
    return np.array(rows[:count], FLOAT), np.array(results[:count], FLOAT)


def joint_position(rng, count):
    """Joints that are nearly closed, and ones that are as far open as those of bodies that were just made."""
    joints, rows, results = _Joints(rng), [], []
    for i in range(count):
        joints.draw(0.02 if i % 2 else 0.6)
        iterations = int(rng.integers(1, 5))
        rows.append([iterations, *joints.inputs(), *joints.states()])
        joints.world.Step(TIME_STEP, 0, iterations)
        results.append(joints.states())
        joints.world.DestroyJoint(joints.joint)
    return np.array(rows, FLOAT), np.array(results, FLOAT)


# ---- Contacts


def _draw_edge(rng):
    """From left to right, float32 [2, 2]."""
    at, angle = rng.uniform(-20, 20, 2), rng.uniform(-1, 1)
    return np.stack([at, at + rng.uniform(0.3, 3) * np.array([np.cos(angle), np.sin(angle)])]).astype(FLOAT)


def _draw_pose(rng, shape, edge, separation):
    """(origin, angle) of the polygon above the edge or its ends, its lowest vertex at `separation` from the edge's
    line. Half the time one of its sides lies on it, or nearly so. In float64, whose last bits, which differ between
    processors, are rounded away before anything acts."""
    edge, vertices, normals = (points.astype(float) for points in (edge, shape.vertices, shape.normals))
    along = edge[1] - edge[0]
    slope = np.arctan2(along[1], along[0])
    angle = rng.uniform(-np.pi, np.pi)
    if rng.random() < 0.5:
        side = normals[rng.integers(len(normals))]
        angle = slope - np.pi / 2 - np.arctan2(side[1], side[0]) + rng.normal(0, 0.02)
    turned = vertices @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    up = np.array([-np.sin(slope), np.cos(slope)])
    heights = turned @ up
    lowest = turned[np.argmin(heights)]
    return edge[0] + rng.uniform(-0.1, 1.1) * along + separation * up - lowest, angle


def edge_manifold(rng, count, shape):
    """With the features that meet at each point as one number."""
    rows, results, identity = [], [], Box2D.b2Transform()
    identity.SetIdentity()
    for _ in range(count):
        edge = _draw_edge(rng)
        if rng.random() < 0.2:  # from the other side
            edge = edge[::-1]
        origin, angle = _draw_pose(rng, shape, edge, rng.uniform(-0.06, 0.03))
        origin, angle = origin.astype(FLOAT), FLOAT(angle)
        manifold, transform = Box2D.b2Manifold(), Box2D.b2Transform()
        transform.Set(tuple(map(float, origin)), float(angle))
        line = Box2D.b2EdgeShape(vertices=edge.astype(float).tolist())
        Box2D.b2CollideEdgeAndPolygon(manifold, line, identity, shape.shape, transform)
        rows.append([*edge.ravel(), *origin, angle])
        features = [point.id.cf for point in manifold.points]
        keys = [1 + f.indexA + 8 * (f.indexB + 8 * (f.typeA + 2 * f.typeB)) for f in features]
        results.append([*_manifold(manifold), *keys, *[0] * (2 - len(keys))])
    return np.array(rows, FLOAT), np.array(results, FLOAT)


class _Listener(Box2D.b2ContactListener):
    """Keeps the contact, and its manifold as the solver is about to see it."""

    def PreSolve(self, contact, old):
        self.contact, self.friction = contact, contact.friction
        self.manifold = _manifold(contact.manifold)
        self.before = self.impulses()

    def impulses(self):
        impulses = [x for point in self.contact.manifold.points for x in (point.normalImpulse, point.tangentImpulse)]
        return [*impulses, *[0.0] * (4 - len(impulses))]


class _Contacts:
    """One of the bodies in a world of its own, and one random edge after the other below it."""

    def __init__(self, rng, shape):
        self.rng, self.shape, self.world, self.listener = rng, shape, _world(), _Listener()
        self.world.contactListener = self.listener
        self.body = self.world.CreateDynamicBody(fixtures=shape.fixture(friction=rng.uniform(0.05, 2.5)))
        self.ground = None

    def draw(self, separation, move=0.0):
        if self.ground is not None:
            self.world.DestroyBody(self.ground)
        self.edge = _draw_edge(self.rng)
        self.friction = self.rng.uniform(0.05, 2.5)
        line = Box2D.b2EdgeShape(vertices=self.edge.astype(float).tolist())
        self.ground = self.world.CreateStaticBody(shapes=line)
        self.ground.fixtures[0].friction = self.friction
        origin, angle = _draw_pose(self.rng, self.shape, self.edge, separation)
        self.move(move, origin, angle)

    def move(self, move, origin=None, angle=None):
        state = {} if origin is None else {"position": origin, "angle": angle}
        moves = move * self.rng.uniform(-1, 1, 3)
        _set(self.body, **state, velocity=moves[:2], spin=moves[2])

    def step(self, velocity_iterations, position_iterations):
        """Says whether anything touched."""
        self.listener.contact = None
        self.world.Step(TIME_STEP, velocity_iterations, position_iterations)
        return self.listener.contact is not None


def contact_velocity(rng, count, shape):
    """Every second row or so begins with impulses, which the step before it left to points that still touch."""
    contacts, rows, results = _Contacts(rng, shape), [], []
    while len(rows) < count:
        contacts.draw(rng.uniform(-0.02, 0.02), move=3.0)
        for _ in range(2):
            before, iterations = _state(contacts.body), int(rng.integers(1, 5))
            if not contacts.step(iterations, 0):
                break
            seen = contacts.listener
            rows.append([iterations, *shape.mass, seen.friction, *seen.manifold, *seen.before, *before])
            results.append([*_state(contacts.body), *seen.impulses()])
            contacts.move(3.0)  # where it is now
    return np.array(rows[:count], FLOAT), np.array(results[:count], FLOAT)


def contact_position(rng, count, shape):
    contacts, rows, results = _Contacts(rng, shape), [], []
    while len(rows) < count:
        contacts.draw(rng.uniform(-0.3, 0.02))
        before, iterations = _state(contacts.body), int(rng.integers(1, 5))
        if contacts.step(0, iterations):
            rows.append([iterations, *shape.mass, *contacts.listener.manifold, *before])
            results.append(_state(contacts.body))
    return np.array(rows, FLOAT), np.array(results, FLOAT)


# ---- Impacts


def _draw_way(rng, shape, edge):
    """Poses before and after a step towards the edge, and sometimes past it."""
    origin, angle = _draw_pose(rng, shape, edge, rng.uniform(0.005, 0.2))
    along = np.diff(edge.astype(float), axis=0)[0]
    along /= np.linalg.norm(along)
    down, across = rng.uniform(0, 0.35), rng.normal(0, 0.1)
    return origin, angle, origin + across * along + down * np.array([along[1], -along[0]]), angle + rng.normal(0, 0.1)


def impact(rng, count, shape):
    rows, results = [], []
    still = Box2D.b2Sweep(localCenter=(0, 0), c0=(0, 0), c=(0, 0), a0=0, a=0, alpha0=0)
    for _ in range(count):
        edge = _draw_edge(rng)
        origin, angle, to, to_angle = _draw_way(rng, shape, edge)
        center = np.array(shape.mass[2:])
        turn = [np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) @ center for a in (angle, to_angle)]
        way = np.array([*(origin + turn[0]), angle, *(to + turn[1]), to_angle], FLOAT).astype(float)
        sweep = Box2D.b2Sweep(
            localCenter=tuple(shape.mass[2:]), c0=tuple(way[:2]), a0=way[2], c=tuple(way[3:5]), a=way[5], alpha0=0
        )
        line = Box2D.b2EdgeShape(vertices=edge.astype(float).tolist())
        state, time = Box2D.b2TimeOfImpact(
            shapeA=line, idxA=0, shapeB=shape.shape, idxB=0, sweepA=still, sweepB=sweep, tMax=1.0
        )
        rows.append([*shape.mass, *edge.ravel(), *way])
        results.append([time if state == Box2D.b2TOIOutput.e_touching else 1.0])
    return np.array(rows, FLOAT), np.array(results, FLOAT)


def impacts(rng, count, shape):
    """Whole steps of a body alone that touches nothing when they begin."""
    contacts, rows, results = _Contacts(rng, shape), [], []
    contacts.world.continuousPhysics = True
    while len(rows) < count:
        contacts.draw(1.0)
        origin, angle, to, to_angle = _draw_way(rng, shape, contacts.edge)
        velocity, spin = (to - origin) / TIME_STEP, (to_angle - angle) / TIME_STEP
        _set(contacts.body, position=origin, angle=angle, velocity=velocity, spin=spin)
        before, iterations = _state(contacts.body), int(rng.integers(1, 30))
        manifold, identity = Box2D.b2Manifold(), Box2D.b2Transform()
        identity.SetIdentity()
        line = contacts.ground.fixtures[0].shape
        Box2D.b2CollideEdgeAndPolygon(manifold, line, identity, shape.shape, contacts.body.transform)
        if manifold.pointCount > 0:
            continue
        friction = Box2D.b2MixFriction(contacts.ground.fixtures[0].friction, contacts.body.fixtures[0].friction)
        rows.append([iterations, *shape.mass, friction, *contacts.edge.ravel(), *before])
        contacts.world.Step(TIME_STEP, iterations, 1)
        results.append(_state(contacts.body))
    return np.array(rows, FLOAT), np.array(results, FLOAT)
