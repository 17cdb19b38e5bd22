//! The window: what is replicated, drawn as the lobby draws its arena, and the keys.

use bevy::{
    prelude::*,
    render::view::screenshot::{Screenshot, save_to_disk},
    sprite::Anchor,
};
use bevy_replicon::prelude::*;
use bevy_uhst::UhstHost;

use crate::{
    Cli, EDGE, Figure, Star, Steer, Told,
    theme::{self, Theme, Type},
};

const RADIUS: f32 = 26.0;
/// Between the dots of the ground.
const SPACING: f32 = 60.0;

#[derive(Component)]
struct Pupils;

/// The name and score above a figure.
#[derive(Component)]
struct Label(Entity);

#[derive(Component)]
struct Headline;

pub fn plugin(app: &mut App) {
    app.insert_resource(ClearColor(theme::BACKGROUND))
        .init_resource::<Theme>()
        .add_systems(Startup, (spawn_ground, spawn_text))
        .add_observer(draw_figure)
        .add_observer(draw_star)
        .add_systems(Update, (keys, move_drawn, look_ahead, label, headline, picture));
}

fn spawn_ground(
    mut commands: Commands,
    mut meshes: ResMut<Assets<Mesh>>,
    mut materials: ResMut<Assets<ColorMaterial>>,
) {
    commands.spawn(Camera2d);
    let size = 2.0 * (EDGE + Vec2::splat(1.5 * RADIUS));
    commands.spawn((Sprite::from_color(theme::CARD_EDGE, size + 2.0), Transform::from_xyz(0.0, 0.0, -4.0)));
    commands.spawn((Sprite::from_color(theme::CARD, size), Transform::from_xyz(0.0, 0.0, -3.0)));
    let (dot, colour) = (meshes.add(Circle::new(2.0)), materials.add(theme::CARD_EDGE));
    let (columns, rows) = ((EDGE.x / SPACING) as i32, (EDGE.y / SPACING) as i32);
    for (x, y) in (-columns..=columns).flat_map(|x| (-rows..=rows).map(move |y| (x as f32, y as f32))) {
        let place = Transform::from_xyz(x * SPACING, y * SPACING, -2.0);
        commands.spawn((Mesh2d(dot.clone()), MeshMaterial2d(colour.clone()), place));
    }
}

fn spawn_text(mut commands: Commands, theme: Res<Theme>) {
    let page = Node {
        width: percent(100),
        height: percent(100),
        padding: UiRect::axes(px(40), px(24)),
        justify_content: JustifyContent::SpaceBetween,
        ..default()
    };
    commands.spawn((page, Pickable::IGNORE)).with_children(|page| {
        page.spawn(theme.text(Type::Heading, theme::TEXT, "Catch the spark with the arrow keys"));
        page.spawn((Headline, theme.text(Type::Body, theme::DIM, "")));
    });
}

fn draw_figure(
    figure: On<Add, Figure>,
    figures: Query<&Figure>,
    theme: Res<Theme>,
    mut meshes: ResMut<Assets<Mesh>>,
    mut materials: ResMut<Assets<ColorMaterial>>,
    mut commands: Commands,
) {
    let owner = figures.get(figure.entity).ok().and_then(|figure| figure.owner);
    let body = theme::player_colour(owner.map_or(0, |id| 1 + (id.get() % 7) as usize));
    let mut disc = |half_size: Vec2, colour: Color, at: Vec3| {
        let (mesh, colour) = (meshes.add(Ellipse::from_size(2.0 * half_size)), materials.add(colour));
        (Mesh2d(mesh), MeshMaterial2d(colour), Transform::from_translation(at))
    };
    let [left, right] = [-0.31, 0.31].map(|x| Vec3::new(x, 0.22, 0.1) * Vec3::new(RADIUS, RADIUS, 1.0));
    commands.entity(figure.entity).insert(disc(Vec2::splat(RADIUS), body, Vec3::ZERO)).with_children(|parts| {
        for at in [left, right] {
            parts.spawn(disc(RADIUS * Vec2::new(0.21, 0.3), Color::WHITE, at));
        }
        parts.spawn((Pupils, Transform::default(), Visibility::default())).with_children(|pupils| {
            for at in [left, right] {
                pupils.spawn(disc(RADIUS * Vec2::new(0.11, 0.15), theme::BACKGROUND, at.with_z(0.2)));
            }
        });
        let (font, ..) = theme.font(Type::Small);
        parts.spawn((
            Label(figure.entity),
            Text2d::default(),
            font,
            TextColor(theme::TEXT),
            Anchor::BOTTOM_CENTER,
            Transform::from_xyz(0.0, 1.25 * RADIUS, 1.0),
        ));
    });
}

/// A diamond in its glow.
fn draw_star(
    star: On<Add, Star>,
    mut meshes: ResMut<Assets<Mesh>>,
    mut materials: ResMut<Assets<ColorMaterial>>,
    mut commands: Commands,
) {
    let diamond = (Mesh2d(meshes.add(Rhombus::new(28.0, 28.0))), MeshMaterial2d(materials.add(theme::ACCENT)));
    commands.entity(star.entity).insert(diamond).with_children(|parts| {
        let glow = materials.add(theme::ACCENT.with_alpha(0.006));
        for step in 1..=24_u8 {
            let ring = Mesh2d(meshes.add(Circle::new(2.5 * f32::from(step))));
            parts.spawn((ring, MeshMaterial2d(glow.clone()), Transform::from_xyz(0.0, 0.0, -1.0)));
        }
    });
}

fn keys(keys: Res<ButtonInput<KeyCode>>, mut last: Local<Vec2>, mut commands: Commands) {
    let axis = |plus, minus| f32::from(i8::from(keys.pressed(plus)) - i8::from(keys.pressed(minus)));
    let wish = Vec2::new(axis(KeyCode::ArrowRight, KeyCode::ArrowLeft), axis(KeyCode::ArrowUp, KeyCode::ArrowDown));
    if wish != *last {
        *last = wish;
        commands.client_trigger(Steer(wish.normalize_or_zero()));
    }
}

fn move_drawn(mut drawn: Query<(AnyOf<(&Figure, &Star)>, &mut Transform)>) {
    for ((figure, star), mut transform) in &mut drawn {
        let at = figure.map(|figure| figure.at).or(star.map(|star| star.0));
        let height = if figure.is_some() { 2.0 } else { 0.0 };
        transform.translation = at.unwrap_or_default().extend(height);
    }
}

fn look_ahead(mut pupils: Query<(&mut Transform, &ChildOf), With<Pupils>>, figures: Query<&Figure>) {
    for (mut transform, child_of) in &mut pupils {
        let heading = figures.get(child_of.parent()).map_or(Vec2::ZERO, |figure| figure.heading);
        transform.translation = (heading * 0.09 * RADIUS).extend(0.0);
    }
}

fn label(mut labels: Query<(&mut Text2d, &Label)>, figures: Query<&Figure, Changed<Figure>>) {
    for (mut text, label) in &mut labels {
        let Ok(figure) = figures.get(label.0) else { continue };
        let name = figure.owner.map_or("host".to_owned(), |id| format!("player {:04x}", id.get() >> 48));
        text.0 = format!("{name}  {}", figure.caught);
    }
}

fn headline(figures: Query<&Figure>, host: Option<Single<&UhstHost>>, mut text: Single<&mut Text, With<Headline>>) {
    let players = figures.iter().len();
    let link = host.and_then(|host| host.links().first().map(ToString::to_string)).unwrap_or_default();
    text.set_if_neq(Text::new(format!("{players} players   {link}")));
}

/// Takes the picture once three sparks were caught, and leaves five sparks later: by then the others have theirs.
fn picture(
    mut cli: ResMut<Cli>,
    mut last: Local<Option<u32>>,
    told: Res<Told>,
    figures: Query<&Figure>,
    mut commands: Commands,
    mut exit: MessageWriter<AppExit>,
) {
    let worth_it = told.0 >= 3 && figures.iter().len() > 1;
    if let Some(file) = cli.screenshot.take_if(|_| worth_it) {
        commands.spawn(Screenshot::primary_window()).observe(save_to_disk(file));
        *last = Some(told.0 + 5);
    }
    if last.is_some_and(|last| told.0 >= last) {
        exit.write(AppExit::Success);
    }
}
